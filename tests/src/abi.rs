//! Components encoded by hand, below the types that a compiler guarantees. A [`Guest`] is a description and answers in memory,
//! byte by byte, with the little code that returns them to the host. Must never correct a value that a test made invalid.

use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, DataSection, EntityType, ExportKind, ExportSection, Function, FunctionSection,
    GlobalSection, GlobalType, ImportSection, InstructionSink, MemArg, MemArgTarget, MemorySection, MemoryType, Module,
    StartSection, TypeSection, ValType,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// Start of the guest's data. Below it all bytes are zero, which also decodes as an `ok` without a value.
const BASE: u32 = 1024;

/// The host puts a call's arguments from here to the end of memory.
const HEAP: u32 = 64 << 10;
const MEMORY: u32 = 128 << 10;

/// Offsets of description fields: the list of events, and the byte that says whether the plugin supports tenants.
pub const EVENTS: u32 = 48;
pub const TENANCY: u32 = 28;
/// Offsets of namespace fields: whether it has a door policy, and whether that requires a token.
pub const DOOR: u32 = 8;
pub const TOKEN: u32 = 12;

/// Indices of the functions in the module; the import comes first.
const WRITE: u32 = 0;
const REALLOC: u32 = 1;
const START: u32 = 11;

/// Indices of the globals: the next free address, and the mode of `realloc` (0: it works correctly).
const NEXT: u32 = 0;
const MODE: u32 = 1;

/// How `realloc` misbehaves once an event has chosen it.
#[derive(Clone, Copy, Debug)]
pub enum Realloc {
    BeyondMemory = 1,
    AcrossTheEnd,
    Misaligned,
    Loop,
    Trap,
    Grow,
    CallOut,
}

impl Realloc {
    pub const ALL: [Self; 7] =
        [Self::BeyondMemory, Self::AcrossTheEnd, Self::Misaligned, Self::Loop, Self::Trap, Self::Grow, Self::CallOut];
}

/// The behaviour of the module's start function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Nothing,
    Loop,
    Trap,
    CallOut,
}

/// The behaviour of the post-return function, which runs when the host has read an answer.
#[derive(Clone, Copy, Debug)]
pub enum After {
    Loop,
    Trap,
    CallOut,
}

/// Builds a plugin that handles the events `a`, `b` and so on in `/abi`. Each event is answered with one address in memory.
pub struct Guest {
    image: Vec<u8>,
    /// The address that `describe` returns.
    describe: u32,
    /// The address that `init` returns.
    init: u32,
    start: Start,
    answers: Vec<u32>,
    after: Vec<(u32, After)>,
    namespace: u32,
}

impl Guest {
    /// A guest with a valid description and no answers. It handles one event for each letter.
    pub fn new() -> Self {
        let mut guest = Self {
            image: Vec::new(),
            describe: 0,
            init: 0,
            start: Start::Nothing,
            answers: Vec::new(),
            after: Vec::new(),
            namespace: 0,
        };
        let nothing = [0; 8];
        let door = [&[0; 4][..], &nothing, &nothing, &nothing, &nothing, &nothing, &[0; 4]].concat();
        let namespace = [&guest.text(b"/abi")[..], &[1, 0, 0, 0], &door].concat();
        guest.namespace = guest.put(&namespace);
        let mut events = Vec::new();
        for name in ('a'..='z').chain('A'..='Z') {
            let fields = [b"/abi".to_vec(), name.to_string().into_bytes(), b"true".to_vec()];
            fields.iter().for_each(|field| events.extend(guest.text(field)));
            events.extend([0; 36]);
        }
        let (name, version, events) = (guest.text(b"abi"), guest.text(b"1.0.0"), (guest.put(&events), 52));
        let fields = [
            &name[..],
            &version,
            &1u32.to_le_bytes(),
            &nothing,
            &[0; 4],
            &pair(guest.namespace, 1),
            &nothing,
            &pair(events.0, events.1),
            &[0; 44],
        ];
        guest.describe = guest.put(&fields.concat());
        guest
    }

    /// Puts bytes into memory with the largest alignment and returns their address.
    pub fn put(&mut self, bytes: &[u8]) -> u32 {
        self.image.resize(self.image.len().next_multiple_of(8), 0);
        let at = BASE + u32::try_from(self.image.len()).expect("it is short");
        self.image.extend_from_slice(bytes);
        at
    }

    /// Puts a string or a list of bytes into memory and returns its address and length.
    pub fn text(&mut self, text: &[u8]) -> [u8; 8] {
        pair(self.put(text), u32::try_from(text.len()).expect("it is short"))
    }

    /// Makes `describe` return an address that is `away` bytes off.
    pub fn with_description_offset(mut self, away: u32) -> Self {
        self.describe = self.describe.wrapping_add(away);
        self
    }

    /// Makes `init` return this address.
    pub fn with_init_address(mut self, address: u32) -> Self {
        self.init = address;
        self
    }

    pub fn with_start(mut self, start: Start) -> Self {
        self.start = start;
        self
    }

    /// Overwrites a field of the description.
    pub fn describe_with(mut self, field: u32, bytes: &[u8]) -> Self {
        self.overwrite(self.describe + field, bytes);
        self
    }

    /// Overwrites a field of the only namespace.
    pub fn namespace_with(mut self, field: u32, bytes: &[u8]) -> Self {
        self.overwrite(self.namespace + field, bytes);
        self
    }

    fn overwrite(&mut self, at: u32, bytes: &[u8]) {
        let at = (at - BASE) as usize;
        self.image[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Answers the next event with the bytes at an address, valid or not. Returns the event's name.
    pub fn answer_at(&mut self, address: u32) -> String {
        self.answers.push(address);
        char::from(b'a' + u8::try_from(self.answers.len() - 1).expect("as many as letters")).to_string()
    }

    /// Like [`answer_at`](Self::answer_at), with the bytes of the answer: a `result<option<string>, refusal>`.
    pub fn answer(&mut self, bytes: &[u8]) -> String {
        let answer = [bytes, &[0; 40][bytes.len().min(40)..]].concat();
        let address = self.put(&answer);
        self.answer_at(address)
    }

    /// A valid answer, after which the post-return function misbehaves.
    pub fn answer_and(&mut self, after: After) -> String {
        let event = self.answer(&[]);
        self.after.push((self.answers[self.answers.len() - 1], after));
        event
    }

    /// The event after which `realloc` misbehaves for the rest of the instance's life.
    pub fn arm(realloc: Realloc) -> String {
        char::from(b'A' + realloc as u8).to_string()
    }

    /// Encodes the component.
    pub fn component(mut self) -> Vec<u8> {
        let table: Vec<u8> = self.answers.iter().flat_map(|address| address.to_le_bytes()).collect();
        let table = self.put(&table);
        let mut module = self.module(table);
        let mut resolve = Resolve::default();
        let (package, _) = resolve.push_dir(crate::checkout_dir().join("wit")).expect("the contract exists");
        let world = resolve.select_world(&[package], Some("plugin")).expect("it has one world");
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).expect("a module accepts sections");
        let mut encoder = ComponentEncoder::default();
        encoder.module(&module).expect("the module is valid").encode().expect("its functions have the right types")
    }

    fn module(&self, table: u32) -> Vec<u8> {
        use ValType::{I32, I64};
        let mut types = TypeSection::new();
        types.ty().function([I32; 5], []);
        types.ty().function([I32; 4], [I32]);
        types.ty().function([], [I32]);
        types.ty().function([I32; 2], [I32]);
        types.ty().function([I32], [I32]);
        types.ty().function([I32], []);
        types.ty().function([[I32; 9].as_slice(), &[I64]].concat(), [I32]);
        types.ty().function([[I32; 8].as_slice(), &[I64]].concat(), [I32]);
        types.ty().function([], []);
        let mut imports = ImportSection::new();
        imports.import("hubbub:plugin/log@0.2.0", "write", EntityType::Function(0));
        let exported = [
            ("cabi_realloc", 1, self.realloc()),
            ("describe", 2, returning(self.describe)),
            ("init", 3, returning(self.init)),
            ("authorize", 4, returning(0)),
            ("on-connect", 4, returning(0)),
            ("on-event", 4, on_event(table)),
            ("on-event", 5, self.after()),
            ("on-disconnect", 5, returning_nothing()),
            ("on-message", 6, returning(0)),
            ("on-timer", 7, returning(0)),
        ];
        let (mut functions, mut exports, mut code) = (FunctionSection::new(), ExportSection::new(), CodeSection::new());
        exports.export("memory", ExportKind::Memory, 0);
        for ((name, ty, body), index) in exported.into_iter().zip(REALLOC..) {
            let name = match (name, ty) {
                ("cabi_realloc", _) => name.to_owned(),
                ("on-event", 5) => format!("cabi_post_hubbub:plugin/handler@0.2.0#{name}"),
                _ => format!("hubbub:plugin/handler@0.2.0#{name}"),
            };
            functions.function(ty);
            exports.export(&name, ExportKind::Func, index);
            code.function(&body);
        }
        functions.function(8);
        code.function(&self.start());
        let mut memories = MemorySection::new();
        let pages = u64::from(MEMORY >> 16);
        memories.memory(MemoryType { minimum: pages, maximum: None, memory64: false, shared: false, page_size_log2: None });
        let mut globals = GlobalSection::new();
        for value in [HEAP, 0] {
            let kind = GlobalType { val_type: I32, mutable: true, shared: false };
            globals.global(kind, &ConstExpr::i32_const(value as i32));
        }
        let mut data = DataSection::new();
        data.active(0, &ConstExpr::i32_const(BASE as i32), self.image.iter().copied());
        let mut module = Module::new();
        module.section(&types).section(&imports).section(&functions).section(&memories).section(&globals).section(&exports);
        if self.start != Start::Nothing {
            module.section(&StartSection { function_index: START });
        }
        module.section(&code).section(&data);
        module.finish()
    }

    /// Returns the next bytes of the heap, or misbehaves in the chosen mode.
    fn realloc(&self) -> Function {
        let mut function = Function::new([]);
        let mut code = function.instructions();
        for mode in Realloc::ALL {
            code.global_get(MODE).i32_const(mode as i32).i32_eq().if_(BlockType::Empty);
            match mode {
                Realloc::BeyondMemory => code.i32_const(-16).return_(),
                Realloc::AcrossTheEnd => code.i32_const(MEMORY as i32 - 8).return_(),
                Realloc::Misaligned => code.i32_const(HEAP as i32 + 1).return_(),
                Realloc::Loop => forever(&mut code),
                Realloc::Trap => code.unreachable(),
                Realloc::Grow => {
                    code.loop_(BlockType::Empty).i32_const(1).memory_grow(0).i32_const(-1).i32_ne().br_if(0).end().unreachable()
                }
                Realloc::CallOut => call_out(&mut code),
            };
            code.end();
        }
        // next = (next + align - 1) & -align, followed by the new bytes.
        code.global_get(NEXT).local_get(2).i32_add().i32_const(1).i32_sub();
        code.i32_const(0).local_get(2).i32_sub().i32_and().global_set(NEXT);
        code.global_get(NEXT).global_get(NEXT).local_get(3).i32_add().global_set(NEXT).end();
        function
    }

    fn after(&self) -> Function {
        let mut function = Function::new([]);
        let mut code = function.instructions();
        for (address, after) in &self.after {
            code.local_get(0).i32_const(*address as i32).i32_eq().if_(BlockType::Empty);
            match after {
                After::Loop => forever(&mut code),
                After::Trap => code.unreachable(),
                After::CallOut => call_out(&mut code),
            };
            code.end();
        }
        code.end();
        function
    }

    fn start(&self) -> Function {
        let mut function = Function::new([]);
        let mut code = function.instructions();
        match self.start {
            Start::Nothing => {}
            Start::Loop => drop(forever(&mut code)),
            Start::Trap => drop(code.unreachable()),
            Start::CallOut => drop(call_out(&mut code)),
        }
        code.end();
        function
    }
}

impl Default for Guest {
    fn default() -> Self {
        Self::new()
    }
}

/// An address and a length, in the layout that the host reads.
pub fn pair(address: u32, length: u32) -> [u8; 8] {
    let mut both = [0; 8];
    both[..4].copy_from_slice(&address.to_le_bytes());
    both[4..].copy_from_slice(&length.to_le_bytes());
    both
}

/// Answers by the event's letter. A capital letter chooses the mode of `realloc` from now on.
fn on_event(table: u32) -> Function {
    const LETTER: u32 = 1;
    /// Offset of the event's name among the arguments, after the caller and the event's id.
    const NAME: u64 = 104;
    let mut function = Function::new([(1, ValType::I32)]);
    let mut code = function.instructions();
    let at = |offset, align| MemArg { offset, align, target: MemArgTarget::default(), ordering: None };
    code.i32_const(HEAP as i32).global_set(NEXT);
    code.local_get(0).i32_load(at(NAME, 2)).i32_load8_u(at(0, 0)).local_set(LETTER);
    code.local_get(LETTER).i32_const(i32::from(b'a')).i32_lt_u().if_(BlockType::Empty);
    code.local_get(LETTER).i32_const(i32::from(b'A')).i32_sub().global_set(MODE).i32_const(0).return_().end();
    code.local_get(LETTER).i32_const(i32::from(b'a')).i32_sub().i32_const(2).i32_shl();
    code.i32_load(at(u64::from(table), 2)).end();
    function
}

fn returning(value: u32) -> Function {
    let mut function = Function::new([]);
    function.instructions().i32_const(value as i32).end();
    function
}

fn returning_nothing() -> Function {
    let mut function = Function::new([]);
    function.instructions().end();
    function
}

fn forever<'a, 'b>(code: &'b mut InstructionSink<'a>) -> &'b mut InstructionSink<'a> {
    code.loop_(BlockType::Empty).br(0).end()
}

/// Calls an import where a guest must not call any.
fn call_out<'a, 'b>(code: &'b mut InstructionSink<'a>) -> &'b mut InstructionSink<'a> {
    for _ in 0..5 {
        code.i32_const(0);
    }
    code.call(WRITE)
}
