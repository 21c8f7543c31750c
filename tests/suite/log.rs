//! Logs and output that cannot be written. The server must never lose more than log lines, which are counted.

use std::os::unix::process::ExitStatusExt as _;

use tests::server::{ADMIN_TOKEN, Builder, Scratch, run_through};
use tests::token::DEV_SECRET;
use tests::{Client, Server, SmallDisk, fixture, token, wait};

use crate::helpers::{member, open_chat, say};

const SECRET: &str = "a test secret, of just forty characters.";

/// Outputs to which no line can be written.
const UNWRITABLE: [(&str, &str); 2] = [("a full device", r#"exec "$@" >/dev/full 2>&1"#), ("closed", r#"exec "$@" >&- 2>&-"#)];

/// `dev` and `serve` with the chat plugin.
async fn both() -> [(&'static str, Builder); 2] {
    let chat = &fixture::plugins().await["chat"];
    let serve = Server::serve_from_environment().plugin("chat", chat).env("JWT_SECRET", SECRET);
    let serve = serve.env("HUBBUB_API__KEYS", "api-key-of-a-test").env("HUBBUB_ADMIN__TOKEN", "admin-token-of-a-test");
    [("dev", Server::dev().only(&["chat"])), ("serve", serve)]
        .map(|(name, server)| (name, server.without_message_limit().single_node()))
}

async fn lost(server: &Server) -> f64 {
    server.metrics().await.get("hubbub_log_lines_lost_total", &[]).expect("lost lines are counted")
}

/// Sends two chat messages and causes a log line between them.
async fn use_chat(server: &Server, command: &str) {
    open_chat(server, "c1", &["ana"]).await;
    let secret = if command == "dev" { DEV_SECRET } else { SECRET };
    let mut ana = server.connect("/chat", token("ana").secret(secret)).await;
    crate::helpers::join(&mut ana, "c1").await;
    say(&mut ana, "c1", "before").await;
    // The server logs this signal.
    server.signal("USR1");
    say(&mut ana, "c1", "after").await;
    let other = Client::connect(server.address(), "/chat", token("ana").secret(secret)).await;
    assert!(other.is_ok(), "a second client is accepted");
}

#[tokio::test]
async fn an_unwritable_log_loses_only_lines() {
    for (place, script) in UNWRITABLE {
        for (command, server) in both().await {
            let mut server = server.through(script).env("HUBBUB_LOG__FILTER", "debug").start().await;
            use_chat(&server, command).await;
            // The runtime replaces a closed standard error by one that accepts everything, so no line is lost.
            assert_eq!(lost(&server).await > 0.0, place != "closed", "{command}, {place}");
            assert_eq!(server.terminate().await, Some(0), "{command}, {place}: it ends gracefully");
        }
    }
}

#[tokio::test]
async fn a_log_pipe_without_a_reader_loses_only_lines() {
    for (command, server) in both().await {
        let mut server = server.piped_log().env("HUBBUB_LOG__FILTER", "debug").start().await;
        server.close_log_pipe();
        use_chat(&server, command).await;
        wait::eventually("the line to be lost", async || lost(&server).await > 0.0).await;
        assert_eq!(server.terminate().await, Some(0), "{command}: it ends gracefully");
    }
}

#[tokio::test]
async fn a_full_log_pipe_blocks_nothing() {
    for (command, server) in both().await {
        // The pipe's 64 KiB fill at once, and then the buffer.
        let server = server.piped_log().env("HUBBUB_LOG__FILTER", "trace").env("HUBBUB_LOG__BUFFER", "20000");
        let mut server = server.start().await;
        use_chat(&server, command).await;
        wait::eventually("lines to be dropped", async || lost(&server).await > 0.0).await;
        use_chat(&server, command).await;
        assert_eq!(server.terminate().await, Some(0), "{command}: it ends gracefully with a full pipe");
    }
}

#[tokio::test]
async fn a_log_on_a_full_disk_resumes_and_reports_lost_lines() {
    let Some(disk) = SmallDisk::of_mebibytes(1) else { return };
    let log = disk.path().join("log");
    let script = format!(r#"exec "$@" >>{0} 2>&1"#, log.display());
    let mut server = Server::dev().only(&["chat"]).without_message_limit().single_node().through(&script).start().await;
    disk.fill();
    std::fs::write(disk.path().join("more"), vec![0; 4096]).expect_err("the disk is full");
    open_chat(&server, "c1", &["ana"]).await;
    let mut ana = member(&server, "ana", "c1").await;
    wait::eventually("lines to be lost", async || {
        server.signal("USR1");
        lost(&server).await > 0.0
    })
    .await;
    disk.free();
    server.signal("USR1");
    wait::eventually("the lost lines to be reported", async || {
        std::fs::read_to_string(&log).unwrap_or_default().contains("log lines were lost")
    })
    .await;
    say(&mut ana, "c1", "on").await;
    assert_eq!(server.terminate().await, Some(0));
}

/// Commands with output, and the files that they need.
async fn commands(scratch: &Scratch, server: &Server) -> Vec<Vec<String>> {
    let chat = fixture::plugins().await["chat"].display().to_string();
    let key = scratch.path().join("key.pem");
    std::fs::write(&key, SIGNING_KEY).expect("a scratch file");
    let unsigned = scratch.path().join("chat.wasm");
    std::fs::copy(&chat, &unsigned).expect("a scratch file");
    let operator = ["--url".to_owned(), server.admin_url(""), "--token".to_owned(), ADMIN_TOKEN.to_owned()];
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    vec![
        words(&["token", "--sub", "ana"]),
        words(&["plugin", "inspect", &chat]),
        words(&["plugin", "diff", &chat, &chat]),
        words(&["plugin", "sign", &unsigned.display().to_string(), "--key", &key.display().to_string()]),
        [words(&["plugins"]), operator.to_vec()].concat(),
        [words(&["top", "--once"]), operator.to_vec()].concat(),
        [words(&["enable", "chat"]), operator.to_vec()].concat(),
    ]
}

/// Of no use elsewhere.
const SIGNING_KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC
-----END PRIVATE KEY-----
";

#[tokio::test]
async fn a_command_ends_quietly_on_a_closed_pipe_and_fails_on_a_full_disk() {
    let (scratch, server) = (Scratch::new(), Server::dev().only(&["chat"]).single_node().start().await);
    for command in commands(&scratch, &server).await {
        let args: Vec<_> = command.iter().map(String::as_str).collect();
        // A pipe without a reader.
        let fifo = scratch.path().join("fifo");
        let script = format!(r#"mkfifo {0}; exec 4<>{0} 3>{0} 4<&-; rm {0}; exec "$@" >&3 3>&-"#, fifo.display());
        let closed = run_through(&script, &args);
        assert_eq!(String::from_utf8_lossy(&closed.stderr), "", "{args:?}");
        assert_eq!((closed.status.code(), closed.status.signal()), (Some(0), None), "{args:?}");
        let full = run_through(r#"exec "$@" >/dev/full"#, &args);
        let output = String::from_utf8_lossy(&full.stderr);
        assert!(output.contains("standard output cannot be written") && !output.contains("panicked"), "{args:?}: {output}");
        assert_eq!(full.status.code(), Some(1), "{args:?}");
        let mute = run_through(r#"exec "$@" >/dev/full 2>/dev/full"#, &args);
        assert_eq!(mute.status.code(), Some(1), "{args:?}: without a writable stderr");
    }
}
