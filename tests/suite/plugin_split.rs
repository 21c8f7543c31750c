//! The plugins that replace the single plugin of all products: its stored data becomes theirs, wherever the move is interrupted.
//! The old plugin is stored as bytes. Must never write to a data directory that a server has open.

use std::path::Path;
use std::process::Output;

use rusqlite::Connection;
use serde_json::{Value, json};
use tests::server::{ADMIN_TOKEN, Builder, Scratch, run};
use tests::{Postgres, Server, Token, fixture, token, wait};

use crate::helpers::{member, open_chat, publish_keyed, say, user};

/// The plugins that take over the old plugin's data.
pub(crate) const NEW: [&str; 4] = ["chat", "conversations", "crm", "threads"];

/// The storage that consecutive servers of a test share.
enum Storage {
    Folder(Scratch),
    Database(String),
}

impl Storage {
    async fn both() -> [Self; 2] {
        [Self::Folder(Scratch::new()), Self::Database(Postgres::shared().await.empty().await)]
    }

    fn of(&self, server: Builder) -> Builder {
        match self {
            Self::Folder(folder) => server.single_node().data(&folder.path().join("data")),
            Self::Database(url) => server.single_node().database(url),
        }
    }
}

pub(crate) fn old_chat() -> Builder {
    Server::dev().only(&[]).plugin("chat", &fixture::built_for_0_1("chat")).without_message_limit()
}

fn new_plugins() -> Builder {
    Server::dev().only(&NEW).without_message_limit()
}

/// Runs an operator's command.
pub(crate) fn operate(server: &Server, args: &[&str]) -> Output {
    run(args, &[("HUBBUB_ADMIN_URL", &server.admin_url("")), ("HUBBUB_ADMIN_TOKEN", ADMIN_TOKEN)])
}

/// Deploys the new plugins as a set.
pub(crate) async fn split(server: &Server) -> Output {
    splitting(server).await.await.expect("it does not panic")
}

/// Starts to deploy the new plugins as a set.
async fn splitting(server: &Server) -> tokio::task::JoinHandle<Output> {
    let plugins = fixture::plugins().await;
    let mut args = vec!["deploy".to_owned()];
    NEW.iter().for_each(|name| args.extend([(*name).to_owned(), plugins[*name].display().to_string()]));
    let (url, token) = (server.admin_url(""), ADMIN_TOKEN);
    let deploy = move || {
        let args: Vec<_> = args.iter().map(String::as_str).collect();
        run(&args, &[("HUBBUB_ADMIN_URL", &url), ("HUBBUB_ADMIN_TOKEN", token)])
    };
    tokio::task::spawn_blocking(deploy)
}

pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

async fn set(server: &Server, plugin: &str, action: &str) {
    let (status, answer) = server.admin(reqwest::Method::POST, &format!("/admin/plugins/{plugin}/{action}"), Vec::new()).await;
    assert_eq!(status, 200, "{answer}");
}

fn at_acme(id: &str) -> Token {
    token(id).without("sub").claim("userId", id).claim("companyId", "acme")
}

pub(crate) fn thread(id: &str, customer: &str) -> Value {
    json!({"threadId": id, "customer": {"id": customer, "name": customer}})
}

async fn publish_as(server: &Server, id: &str, key: &str, topic: &str, data: Value) {
    server.publish_message(&json!({"topic": topic, "key": key, "id": id, "data": data})).await;
}

/// Waits until a customer may join a thread.
pub(crate) async fn opens(server: &Server, customer: Token, thread: &str) {
    let mut client = server.connect("/portal", customer).await;
    let joins = async || client.ask("join:thread", json!({"threadId": thread})).await == json!({});
    wait::eventually("the thread to exist", joins).await;
}

async fn in_team(server: &Server, who: Token) -> tests::Client {
    let mut client = server.connect("/", who).await;
    let joins = async || client.ask("join_conversation", json!({"conversation_id": "c1"})).await == json!({});
    wait::eventually("the conversation to exist", joins).await;
    client
}

/// The dead letters of threads in the operator's list: plugin and message id.
fn letters(server: &Server) -> Vec<(String, String)> {
    let list = text(&operate(server, &["dead", "list"]));
    let letter = |line: &str| {
        let words: Vec<_> = line.split_whitespace().collect();
        let after = |word: &str| words.iter().position(|found| *found == word).map(|at| words[at + 1].to_owned());
        let topic = words.iter().position(|word| word.contains('.') && word.starts_with("thread"))?;
        Some((words[topic - 1].to_owned(), after("message")?))
    };
    list.lines().filter_map(letter).collect()
}

/// Fills the old plugin's store with data of every product and leaves messages that wait. Returns the id of the CRM's message.
async fn fill(server: &Server) -> Value {
    open_chat(server, "k1", &["ana"]).await;
    let mut ana = member(server, "ana", "k1").await;
    say(&mut ana, "k1", "said before").await;
    publish_as(server, "h1", "t1", "thread.upserted", thread("t1", "cal")).await;
    publish_as(server, "d1", "bad", "thread.upserted", json!({"threadId": "bad"})).await;
    opens(server, user("cal"), "t1").await;
    for tenant in [json!({}), json!({"tenant": "acme"})] {
        let mut conversation = json!({"id": "c1", "members": ["ana", "ben"]});
        conversation.as_object_mut().expect("an object").extend(tenant.as_object().expect("an object").clone());
        publish_keyed(server, "c1", "conversation.created", conversation).await;
    }
    let mut ana = in_team(server, user("ana")).await;
    in_team(server, user("ana").claim("tenant", "acme")).await;
    publish_keyed(server, "c1", "message.created", json!({"id": "m1", "conversation_id": "c1", "user_id": "ben"})).await;
    assert_eq!(ana.next("unread_count").await["unread_count"], 1);
    publish_keyed(server, "acme/c1", "conversation.upserted", json!({"companyId": "acme", "conversationId": "c1"})).await;
    let mut seller = server.connect("/conversations", at_acme("ana")).await;
    let joins = async || seller.ask("join:conversation", json!("c1")).await == json!({});
    wait::eventually("the conversation to exist", joins).await;
    let sent = seller.ask("message:send", json!({"conversationId": "c1", "content": "hi"})).await;
    wait::eventually("the dead letter", async || letters(server) == [("chat".into(), "d1".into())]).await;

    set(server, "chat", "disable").await;
    publish_as(server, "w1", "t2", "thread.upserted", thread("t2", "dora")).await;
    publish_as(server, "w2", "c1", "message.created", json!({"id": "m2", "conversation_id": "c1", "user_id": "ben"})).await;
    let continued = json!({"place": {"tenant": "acme", "id": "c1"}, "users": ["ana"]});
    publish_as(server, "w3", "c1", "conversation.unread", continued).await;
    open_chat(server, "k2", &["ana"]).await;
    sent["id"].clone()
}

/// Asserts that the new plugins have all the data and that each message is handled once.
async fn is_all_there(server: &Server, sent: &Value) {
    set(server, "chat", "enable").await;
    let mut ana = member(server, "ana", "k2").await;
    let page = ana.ask("chat:history", json!({"chatId": "k1"})).await;
    assert_eq!(page["messages"][0]["content"], "said before", "{page}");

    opens(server, user("dora"), "t2").await;
    publish_as(server, "h1", "t1", "thread.upserted", thread("t1", "eve")).await;
    publish_as(server, "w1", "t1", "thread.upserted", thread("t1", "eve")).await;
    publish_as(server, "n1", "t1", "thread.upserted", thread("t3", "cal")).await;
    opens(server, user("cal"), "t3").await;
    opens(server, user("cal"), "t1").await;
    let store = server.store();
    assert_eq!(
        store.value("threads", "threads/t1"),
        Some(json!({"customerId": "cal"})),
        "a message handled before is not handled again"
    );
    assert_eq!(store.value("chat", "threads/t1"), None);
    assert_eq!(letters(server), [("threads".into(), "d1".into())]);

    wait::eventually("the waiting message to be handled", async || store.counter("conversations", "teams//c1/total") == 2).await;
    let mut ana = in_team(server, user("ana")).await;
    let read = json!({"conversation_id": "c1", "message_ids": ["m1"]});
    assert_eq!(ana.ask("mark_read", read).await, json!({}));
    assert_eq!(ana.next("unread_count").await["unread_count"], 1, "the waiting message m2");
    in_team(server, user("ana").claim("tenant", "acme")).await;

    let mut seller = server.connect("/conversations", at_acme("ana")).await;
    assert_eq!(seller.ask("join:conversation", json!("c1")).await, json!({}));
    assert_eq!(seller.ask("message:edit", json!({"messageId": sent, "content": "hello"})).await, json!({}));
    assert_eq!(seller.next("message:updated").await["content"], "hello");
}

#[tokio::test]
async fn starting_the_new_plugins_moves_the_old_ones_data() {
    for storage in Storage::both().await {
        let mut server = storage.of(old_chat()).start().await;
        let sent = fill(&server).await;
        server.terminate().await;
        let server = storage.of(new_plugins()).start().await;
        assert!(server.log().contains("moved what the plugin takes"), "{}", server.log());
        is_all_there(&server, &sent).await;
        assert_eq!(letters(&server).len(), 1, "the unfinished message is handled");
    }
}

#[tokio::test]
async fn deploying_the_new_plugins_as_a_set_moves_the_old_ones_data() {
    for storage in Storage::both().await {
        let server = storage.of(old_chat()).start().await;
        let sent = fill(&server).await;
        let deployed = split(&server).await;
        assert!(deployed.status.success(), "{}", text(&deployed));
        is_all_there(&server, &sent).await;
    }
}

#[tokio::test]
async fn durable_timers_with_the_prefix_move_and_others_stay() {
    let heir = fixture::heir().await.display().to_string();
    for storage in Storage::both().await {
        let server = storage.of(Server::dev().only(&[]).plugin("timed", &fixture::timed().await)).start().await;
        let mut client = server.connect("/timed", ()).await;
        for key in ["late/one", "early"] {
            let ack = client.emit_for_ack(&json!(["durable", key, 5000, 1])).await;
            assert_eq!(client.acked(ack).await, json!({}));
        }
        let tried = operate(&server, &["deploy", "heir", &heir, "--shadow", "10%"]);
        assert!(text(&tried).contains("heir takes data of timed, which is moved for everyone"), "{}", text(&tried));
        // The timers must not run before the deployment, however long it takes.
        set(&server, "timed", "disable").await;
        let deployed = operate(&server, &["deploy", "heir", &heir]);
        assert!(deployed.status.success(), "{}", text(&deployed));
        set(&server, "timed", "enable").await;
        let printed = |plugin: &str, key: &str| server.store().counter(plugin, &format!("said/{key}"));
        wait::eventually("both timers to run", async || printed("heir", "late/one") == 1 && printed("timed", "early") == 1).await;
        assert_eq!((printed("timed", "late/one"), printed("heir", "early")), (0, 0));
    }
}

#[tokio::test]
async fn the_tenant_path_of_messages_is_configurable() {
    let server = Server::dev().only(&["chat", "threads"]).plugin_config("threads", "tenant_path", "org.id").start().await;
    let mut data = thread("t1", "cal");
    data["org"] = json!({"id": 7});
    publish_keyed(&server, "t1", "thread.upserted", data).await;
    opens(&server, user("cal").claim("tenant", "7"), "t1").await;
    assert_eq!(server.store().value("threads", "%t/7/threads/t1"), Some(json!({"customerId": "cal"})));
}

/// Enough threads for a move to be interrupted.
const MANY: u64 = 60_000;

impl Storage {
    /// The number of threads of the old plugin and of the new one.
    async fn counts(&self) -> (u64, u64) {
        let of = |plugin: &str| format!("count(*) FILTER (WHERE plugin = '{plugin}')");
        let both = format!("{} || ' ' || {}", of("chat"), of("threads"));
        let found = match self {
            Self::Folder(folder) => {
                let sql =
                    format!("SELECT {both} FROM entries WHERE key > CAST('threads/' AS BLOB) AND key < CAST('threads0' AS BLOB)");
                open(&folder.path().join("data")).query_row(&sql, [], |row| row.get::<_, String>(0)).expect("a count")
            }
            Self::Database(url) => {
                let sql = format!("SELECT {both} FROM hubbub_entries WHERE key > 'threads/' AND key < 'threads0'");
                Postgres::shared().await.sql(url, &sql).await
            }
        };
        let mut counts = found.split_whitespace().map(|count| count.parse().expect("a number"));
        (counts.next().expect("the old plugin's count"), counts.next().expect("the new plugin's count"))
    }

    /// Adds threads to the old plugin's store while no server runs.
    async fn add_threads(&self) {
        match self {
            Self::Folder(folder) => {
                let sql = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?1)
                    INSERT INTO entries SELECT 'chat', CAST('threads/n' || i AS BLOB), CAST(?2 AS BLOB) FROM n";
                let added = open(&folder.path().join("data")).execute(sql, (MANY as i64, OF_CAL));
                added.expect("the rows are added");
            }
            Self::Database(url) => {
                let row = format!("'chat', convert_to('threads/n' || i, 'UTF8'), convert_to('{OF_CAL}', 'UTF8')");
                let sql = format!("INSERT INTO hubbub_entries SELECT {row} FROM generate_series(1, {MANY}) AS i");
                Postgres::shared().await.sql(url, &sql).await;
            }
        }
    }
}

/// The stored value of a thread.
const OF_CAL: &str = r#"{"customerId":"cal"}"#;

fn open(data: &Path) -> Connection {
    let db = Connection::open(data.join("storage.sqlite")).expect("the database exists");
    db.busy_timeout(wait::DEADLINE).expect("a timeout");
    db
}

/// Deploys the plugins and kills the server in the middle of the move.
async fn kill_while_moving(server: &mut Server, storage: &Storage) {
    let moving = splitting(server).await;
    while storage.counts().await.1 == 0 {
        assert!(!moving.is_finished(), "{}", text(&moving.await.expect("it does not panic")));
    }
    server.kill9();
    moving.await.expect("it does not panic");
    let (old, new) = storage.counts().await;
    assert!(old > 0 && new > 0 && old + new == MANY, "{old} and {new}");
}

#[tokio::test]
async fn an_interrupted_move_is_reverted_or_completed_at_the_next_start() {
    for storage in Storage::both().await {
        let mut server = storage.of(old_chat()).start().await;
        server.terminate().await;
        storage.add_threads().await;
        server.start_again().await;
        kill_while_moving(&mut server, &storage).await;
        server.start_again().await;
        assert_eq!(storage.counts().await, (MANY, 0));
        opens(&server, user("cal"), "n777").await;

        kill_while_moving(&mut server, &storage).await;
        drop(server);
        let mut server = storage.of(new_plugins()).start().await;
        assert_eq!(storage.counts().await, (0, MANY));
        opens(&server, user("cal"), "n777").await;
        assert_eq!(server.readiness().await.1["pluginsDown"], json!([]));

        // The old plugin would find no data now.
        server.terminate().await;
        let refusal = storage.of(old_chat()).start_failure().await;
        assert!(refusal.contains("has been moved to other plugins"), "{refusal}");
        assert_eq!(storage.counts().await, (0, MANY));
    }
}
