//! `[sandbox]`, and the settings of the engine that follow from it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use wasmtime::{InstanceAllocationStrategy, PoolingAllocationConfig, WasmBacktraceDetails};

/// `[sandbox]`: what one instance may use. Everything is per instance or per call, never per plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Instances in all, over all plugins and versions. Each reserves address space, not memory. Default 512.
    pub instances: u32,
    /// Bytes of memory an instance may grow to. Default 32 MiB.
    pub memory: usize,
    /// Bytes of stack a call may use; endless recursion ends there. Default 512 KiB.
    pub stack: usize,
    /// Bytes of strings and lists that one call may pass to the host at a time. Default 2 MiB.
    pub transfer: usize,
    /// The largest component, in bytes. Default 16 MiB.
    pub component: usize,
    /// Bytes of memory that compiling one may take, in its own process. Default 1 GiB.
    pub compile_memory: u64,
    /// Seconds of CPU that compiling one may take. Default 120.
    pub compile_seconds: u64,
    /// Where compiled components are kept. Default: the folder `cache` in `server.data`. Used only if it is the server's own user's,
    /// with mode 0700; an entry counts only with a MAC under the key `cache.key` of `server.data`. Servers do not share one.
    pub cache: PathBuf,
    /// Compiled components that are kept. Past it those go that were not used for longest. Default 64.
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
    /// Whether a file may be a component at all, before anything reads more of it than its first bytes.
    pub(crate) fn check(&self, bytes: &[u8]) -> Result<(), SandboxError> {
        if bytes.len() > self.component {
            return Err(SandboxError::TooLarge { size: bytes.len(), limit: self.component });
        }
        // A precompiled file has another magic: machine code from outside is never loaded.
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
    #[error("the compiler failed by a fault of its own, and what served before serves on ({0})")]
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
        // What a slot keeps mapped between two instances, so that a fresh one costs no page faults for its first pages.
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
