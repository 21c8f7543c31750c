//! `[sandbox]`, and the engine's settings that follow from it.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wasmtime::{InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

/// `[sandbox]`: limits of one WebAssembly instance and of compiling a component.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Instances of all plugins and versions together. Each reserves address space, not memory.
    pub instances: u32,
    /// Bytes of memory that an instance may grow to. Past it the call traps.
    pub memory: usize,
    /// Bytes of stack that a call may use. Past it the call traps, as in endless recursion.
    pub stack: usize,
    /// Bytes of strings and lists that a call may pass to the host at a time. Past it the call traps.
    pub transfer: usize,
    /// Bytes of a component's file. Past it the component is not staged.
    pub component: usize,
    /// Bytes of memory that compiling a component may use, in a process of its own. Past it staging fails.
    pub compile_memory: u64,
    /// Seconds of CPU that compiling a component may use. Past it staging fails.
    pub compile_seconds: u64,
    /// The folder of compiled components. It is used only if it belongs to the server's user and has mode 0700. Each entry has a
    /// MAC under the key in `cache.key` of `server.data`, so two servers cannot share a folder. Default: the folder `cache` in
    /// `server.data`.
    pub cache: PathBuf,
    /// Compiled components that are kept. Past it the least recently used are removed.
    pub cache_files: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            instances: 512,
            memory: 32 << 20,
            stack: 512 << 10,
            transfer: 2 << 20,
            component: 16 << 20,
            compile_memory: 1 << 30,
            compile_seconds: 120,
            cache: PathBuf::new(),
            cache_files: 64,
        }
    }
}

impl Config {
    /// Checks the size and the magic bytes of a component, before anything parses it.
    pub(crate) fn check(&self, bytes: &[u8]) -> Result<(), SandboxError> {
        if bytes.len() > self.component {
            return Err(SandboxError::TooLarge { size: bytes.len(), limit: self.component });
        }
        // A precompiled file has other magic bytes: machine code from outside is never loaded.
        match bytes {
            [0, b'a', b's', b'm', 0x0d, 0, 1, 0, ..] => Ok(()),
            [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Err(SandboxError::NotAComponent(true)),
            _ => Err(SandboxError::NotAComponent(false)),
        }
    }
}

/// Why a component cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("the component has {size} bytes; at most {limit} are allowed (sandbox.component)")]
    TooLarge { size: usize, limit: usize },
    #[error("not a component: it does not begin with the magic bytes of one{}", if *.0 { " (it is a core module: wrap it with `hubbub plugin build`)" } else { "" })]
    NotAComponent(bool),
    #[error("the component does not compile: {0}")]
    Compile(String),
    #[error("the compiler itself failed, and the release before stays active ({0})")]
    CompilerFault(String),
    #[error("the folder of compiled components {} cannot be used: {why}", cache.display())]
    Cache { cache: PathBuf, why: String },
    #[error("the component does not fit the plugin contract (hubbub:plugin): {0}")]
    World(String),
    #[error("the engine cannot start: {0}")]
    Engine(String),
}

pub(super) fn settings(config: &Config) -> wasmtime::Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(config.instances)
        .total_core_instances(config.instances * 4)
        .total_memories(config.instances)
        .total_tables(config.instances * 4)
        .total_stacks(config.instances)
        .max_memory_size(config.memory)
        .max_core_instances_per_component(4)
        .max_memories_per_component(1)
        .max_tables_per_component(4)
        // Room for a large plugin's functions: 16 bytes each.
        .table_elements(20_000)
        .max_component_instance_size(1 << 20)
        .max_core_instance_size(1 << 20)
        // Memory that a slot keeps mapped between two instances, so that a new instance causes no page faults for its first
        // pages.
        .linear_memory_keep_resident(256 << 10)
        .max_unused_warm_slots(32);
    let mut settings = wasmtime::Config::new();
    settings
        .allocation_strategy(InstanceAllocationStrategy::Pooling(pool))
        // Epochs, since fuel costs two to three times as much, and a timeout cannot stop a loop.
        .epoch_interruption(true)
        .max_wasm_stack(config.stack)
        .async_stack_size(config.stack + (512 << 10))
        .memory_init_cow(true)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(8))
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_tail_call(false)
        .wasm_relaxed_simd(false);
    settings
}
