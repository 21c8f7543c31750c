//! The command line. Each command is one function. Standard output must hold only a command's result; messages go to standard error.

mod config;
mod dead;
mod dev;
mod diff;
mod migrate;
mod plugin;
mod record;
mod reload;
mod replay;
mod serve;
mod signals;
mod start;
mod token;
mod top;
mod types;

use std::ffi::OsString;
use std::io::{ErrorKind, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::Listen;
use crate::{sandbox, shown};

/// A realtime server with features as sandboxed WebAssembly plugins.
#[derive(Parser)]
#[command(name = "hubbub", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds the plugins under `plugins/`, serves with development defaults, and reloads a plugin when its source changes.
    Dev {
        #[command(flatten)]
        common: Common,
        /// Does not rebuild on changes.
        #[arg(long)]
        no_watch: bool,
        /// Accepts other machines, with random secrets for this run in place of the public development secrets.
        #[arg(long)]
        expose: bool,
    },
    /// Serves in production. Starts only if the configuration and all plugins are valid.
    Serve {
        #[command(flatten)]
        common: Common,
    },
    /// Runs the checks of `serve`, and exits.
    Check {
        #[command(flatten)]
        common: Common,
    },
    /// Copies the embedded database to the empty PostgreSQL database of DATABASE_URL.
    Migrate(migrate::Migrate),
    /// Prints a signed token.
    Token(token::Token),
    /// Prints every namespace's events as TypeScript, for `socket.io-client`.
    Types(types::Types),
    /// Prints the configuration with its defaults, its JSON schema, and the generated pages.
    #[command(subcommand)]
    Config(config::Config),
    /// Creates, builds, tests and inspects plugins.
    #[command(subcommand)]
    Plugin(plugin::Plugin),
    /// Lists the plugins of a running server.
    Plugins(plugin::Operator),
    /// Shows the metrics of a running server, once a second.
    Top(top::Top),
    /// Deploys a component to a running server, or several components as one set: all become live, or none.
    Deploy(plugin::Deploy),
    /// Makes the release on trial the active one.
    Promote(plugin::Named),
    /// Ends a trial, or else returns to the previous release. Several plugins are rolled back as one set; a plugin of the set without a
    /// previous release is removed, and the data that was moved to it is moved back.
    Rollback(plugin::Rollback),
    /// Stops a plugin of a running server; its events are answered with `unavailable`.
    Disable(plugin::Named),
    /// Resumes a plugin that is disabled or quarantined.
    Enable(plugin::Named),
    /// Lists, retries and drops dead letters: messages that could not be handled.
    #[command(subcommand)]
    Dead(dead::Dead),
    /// Records calls of a running server's plugin to a file, for `replay`.
    Record(record::Record),
    /// Runs recorded calls on another build, and reports the differences. Exits with 0 if there are none, else with 1, and with 2 after
    /// an error.
    Replay(replay::Replay),
    /// Drains a running server: disconnects all clients, and accepts no new ones.
    Drain(plugin::Operator),
    /// Compiles the component on standard input; the server calls it.
    #[command(name = sandbox::COMMAND, hide = true)]
    Compile { settings: String, out: PathBuf },
}

#[derive(Args, Clone)]
pub(crate) struct Common {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The public port: 127.0.0.1:4100, localhost:4100, or :4100 for all interfaces [default: 127.0.0.1:4100].
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<Listen>,
    /// The operator's port [default: 127.0.0.1:4101].
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<Listen>,
    /// The folder of the embedded database [default: .hubbub].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

/// Flags with secret values, and the variables with the same meaning.
const SECRET_FLAGS: [(&str, &str); 2] = [("--token", "HUBBUB_ADMIN_TOKEN"), ("--secret", "JWT_SECRET")];

/// Replaces this process with one that has the secrets in its environment instead of its arguments: all users of the machine can read
/// a process's arguments, but only its own user the environment. Returns if there is no secret, or if this fails.
fn hide_secrets() {
    let (mut rest, mut found) = (Vec::new(), Vec::new());
    let mut args = std::env::args_os();
    let program = args.next();
    while let Some(arg) = args.next() {
        let text = arg.to_str().unwrap_or_default();
        let (flag, inline) = text.split_once('=').map_or((text, None), |(flag, value)| (flag, Some(OsString::from(value))));
        let Some((_, variable)) = SECRET_FLAGS.iter().find(|(secret, _)| *secret == flag) else {
            rest.push(arg);
            continue;
        };
        match inline.or_else(|| args.next()) {
            Some(value) if !value.is_empty() => found.push((variable, value)),
            // The parser reports the error.
            _ => return,
        }
    }
    if found.is_empty() {
        return;
    }
    let Ok(itself) = std::env::current_exe() else { return };
    let mut command = std::process::Command::new(itself);
    if let Some(program) = program {
        command.arg0(program);
    }
    let _ = command.args(rest).envs(found).exec();
}

pub fn main() -> ExitCode {
    hide_secrets();
    let result = match Cli::parse().command {
        Command::Dev { common, no_watch, expose } => dev::run(&common, !no_watch, expose),
        Command::Serve { common } => serve::run(&common),
        Command::Check { common } => serve::check(&common),
        Command::Migrate(migrate) => migrate.run(),
        Command::Token(token) => token.run(),
        Command::Types(types) => types.run(),
        Command::Config(config) => config.run(),
        Command::Plugin(plugin) => plugin.run(),
        Command::Plugins(operator) => operator.list(),
        Command::Top(top) => top.run(),
        Command::Deploy(deploy) => deploy.run(),
        Command::Promote(named) => named.set("promote"),
        Command::Rollback(rollback) => rollback.run(),
        Command::Disable(named) => named.set("disable"),
        Command::Enable(named) => named.set("enable"),
        Command::Dead(dead) => dead.run(),
        Command::Record(record) => record.run(),
        Command::Replay(replay) => return replay.run(),
        Command::Drain(operator) => operator.drain(),
        Command::Compile { settings, out } => return compile(&settings, &out),
    };
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        // `hubbub plugins | head -1` is no error.
        Err(error) if error.downcast_ref().is_some_and(OutputError::is_broken_pipe) => ExitCode::SUCCESS,
        Err(error) => {
            eprint_line(&format!("hubbub: {error:#}"));
            ExitCode::FAILURE
        }
    };
    crate::telemetry::flush_log();
    code
}

/// The compiler process of a server, which reads the error from standard error and the exit code.
fn compile(settings: &str, out: &Path) -> ExitCode {
    let Err(error) = sandbox::compile(settings, out) else { return ExitCode::SUCCESS };
    eprint_line(&format!("hubbub: {error}"));
    match error {
        sandbox::CompileError::Panicked(_) => ExitCode::from(sandbox::PANICKED),
        sandbox::CompileError::Component(_) => ExitCode::FAILURE,
    }
}

/// Writes a line to standard error. A failure is ignored. In a server the line goes through the log's queue, because the reader of
/// standard error may have stopped.
pub(crate) fn eprint_line(line: &str) {
    let line = format!("{}\n", shown::lines(line));
    if !crate::telemetry::write_beside_log(&line) {
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

/// The result of a command could not be written.
#[derive(Debug, thiserror::Error)]
#[error("standard output cannot be written: {0}")]
pub(crate) struct OutputError(std::io::Error);

impl OutputError {
    /// Standard output is a pipe without a reader.
    fn is_broken_pipe(&self) -> bool {
        self.0.kind() == ErrorKind::BrokenPipe
    }
}

/// Prints a line of the command's result. `println!` would panic if the write failed.
pub(crate) fn print(line: &str) -> Result<(), OutputError> {
    print_raw(&format!("{}\n", shown::lines(line)))
}

/// Prints text of the command's result without escaping: the caller has escaped all untrusted text.
pub(crate) fn print_raw(text: &str) -> Result<(), OutputError> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(OutputError)
}
