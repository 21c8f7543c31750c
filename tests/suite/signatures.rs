//! Signatures, digests and minimum versions: only an intact, signed and new enough component may run. The server must never trust
//! the storage.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tests::cluster::Cluster;
use tests::server::{Builder, Scratch, run};
use tests::{Client, Postgres, Server, fixture, token};

/// Two keys, of no use elsewhere.
const KEYS: [&str; 2] = [
    "MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g",
    "MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC",
];

/// A component's file with its signature.
struct Signed {
    file: PathBuf,
    /// The public key in the format of `signature.keys`.
    public: String,
    signature: String,
}

async fn component(version: &str) -> Vec<u8> {
    std::fs::read(fixture::versioned(version).await).expect("the component was built")
}

/// Copies a version and signs it with one of the keys.
async fn signed(scratch: &Scratch, version: &str, key: usize) -> Signed {
    let (pem, file) =
        (scratch.path().join(format!("key-{key}.pem")), scratch.path().join(format!("versioned-{version}-{key}.wasm")));
    std::fs::write(&pem, format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", KEYS[key]))
        .expect("a scratch file");
    std::fs::write(&file, component(version).await).expect("a scratch file");
    let made = run(&["plugin", "sign", &file.display().to_string(), "--key", &pem.display().to_string()], &[]);
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let public = format!("[{:?}]", String::from_utf8_lossy(&made.stdout).trim());
    let signature = std::fs::read_to_string(file.with_extension("wasm.sig")).expect("the signature is beside the file");
    Signed { file, public, signature }
}

/// Deploys a component with its signature, if it has one.
async fn deploy(server: &Server, component: Vec<u8>, signature: Option<&str>) -> (u16, String) {
    let url = server.admin_url("/admin/plugins/versioned/deploy");
    let mut request = server.http().post(url).bearer_auth(tests::server::ADMIN_TOKEN).body(component);
    if let Some(signature) = signature {
        request = request.header("x-hubbub-signature", signature.trim());
    }
    let answer = request.send().await.expect("the admin port answers");
    (answer.status().as_u16(), answer.text().await.expect("a body of text"))
}

async fn rollback(server: &Server) -> (u16, Value) {
    server.admin(Method::POST, "/admin/plugins/versioned/rollback", Vec::new()).await
}

async fn version(server: &Server) -> Value {
    let mut client: Client = server.connect("/versioned", token("ana")).await;
    client.ask("version", Value::Null).await
}

/// The server with the first version's file, and a data folder that is kept.
async fn with_data(scratch: &Scratch) -> Builder {
    let data = scratch.path().join("data-of-all");
    Server::dev().only(&[]).plugin("versioned", &fixture::versioned("1.0.0").await).data(&data).single_node()
}

fn digest(component: &[u8]) -> String {
    Sha256::digest(component).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn stored_components_need_a_signature_once_keys_are_required() {
    let scratch = Scratch::new();
    let (good, second) = (signed(&scratch, "1.0.0", 0).await, signed(&scratch, "2.0.0", 0).await);
    let plain = with_data(&scratch).await;
    let required = plain.clone().plugin("versioned", &good.file).env("HUBBUB_SIGNATURE__KEYS", &good.public);

    let mut server = plain.clone().start().await;
    assert_eq!(deploy(&server, component("2.0.0").await, None).await.0, 200, "no signature is required yet");
    server.terminate().await;
    let output = required.clone().start_failure().await;
    for part in ["stored component of versioned", "it is not signed", "hubbub plugin sign", "deploy it again"] {
        assert!(output.contains(part), "{part}: {output}");
    }

    let mut server = plain.clone().start().await;
    assert_eq!(version(&server).await, "2.0.0", "without a required key it keeps serving");
    let (status, output) = deploy(&server, component("2.0.0").await, Some(&second.signature)).await;
    assert_eq!(status, 200, "{output}");
    server.terminate().await;
    let mut server = required.clone().start().await;
    assert_eq!(version(&server).await, "2.0.0", "the signature was stored although none was required");
    let (status, answer) = rollback(&server).await;
    assert_eq!(status, 403, "the first version was stored without a signature: {answer}");
    assert_eq!(version(&server).await, "2.0.0");
    server.terminate().await;

    let other = signed(&scratch, "1.0.0", 1).await;
    let output = required.plugin("versioned", &good.file).env("HUBBUB_SIGNATURE__KEYS", &other.public).start_failure().await;
    assert!(output.contains("none of signature.keys has made the signature"), "{output}");
}

#[tokio::test]
async fn a_signed_file_replaces_an_unsigned_stored_component() {
    let scratch = Scratch::new();
    let second = signed(&scratch, "2.0.0", 0).await;
    let plain = with_data(&scratch).await;
    let mut server = plain.clone().start().await;
    assert_eq!(deploy(&server, component("2.0.0").await, None).await.0, 200);
    server.terminate().await;
    let server = plain.plugin("versioned", &second.file).env("HUBBUB_SIGNATURE__KEYS", &second.public).start().await;
    assert_eq!(version(&server).await, "2.0.0");
}

/// `change` flips a bit of a component in the storage of a server that has ended.
async fn a_changed_component_does_not_run(builder: Builder, change: impl AsyncFn(&str)) {
    let mut server = builder.clone().start().await;
    assert_eq!(deploy(&server, component("2.0.0").await, None).await.0, 200);
    server.terminate().await;
    change(&digest(&component("1.0.0").await)).await;
    server.start_again().await;
    let (status, answer) = rollback(&server).await;
    let detail = answer["detail"].as_str().unwrap_or_default();
    assert!(status == 409 && detail.contains("was changed and does not run") && detail.contains("deploy it again"), "{answer}");
    assert_eq!(version(&server).await, "2.0.0", "the live release is unaffected");
    server.terminate().await;
    change(&digest(&component("2.0.0").await)).await;
    let output = builder.data(&server.data()).start_failure().await;
    assert!(output.contains("stored component of versioned was changed"), "{output}");
}

#[tokio::test]
async fn a_component_changed_in_the_embedded_database_does_not_run() {
    let scratch = Scratch::new();
    let file = scratch.path().join("data-of-all/storage.sqlite");
    let change = async |digest: &str| {
        let db = rusqlite::Connection::open(&file).expect("the server has ended");
        let name = format!("component/{digest}");
        let bytes = db.query_row("SELECT value FROM blobs WHERE name = ?1", [&name], |row| row.get::<_, Vec<u8>>(0));
        let mut bytes = bytes.expect("it is stored");
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        db.execute("UPDATE blobs SET value = ?2 WHERE name = ?1", (&name, &bytes)).expect("it can be written");
    };
    a_changed_component_does_not_run(with_data(&scratch).await, change).await;
}

#[tokio::test]
async fn a_component_changed_in_postgres_does_not_run() {
    let scratch = Scratch::new();
    let (postgres, url) = (Postgres::shared().await, Postgres::shared().await.empty().await);
    let change = async |digest: &str| {
        let flipped = "set_byte(value, length(value) - 1, get_byte(value, length(value) - 1) # 1)";
        postgres.sql(&url, &format!("UPDATE hubbub_blobs SET value = {flipped} WHERE name = 'component/{digest}'")).await;
    };
    a_changed_component_does_not_run(with_data(&scratch).await.database(&url), change).await;
}

#[tokio::test]
async fn a_version_below_the_minimum_is_never_run() {
    let scratch = Scratch::new();
    let plain = with_data(&scratch).await;
    let least = |builder: &Builder, version: &str| builder.clone().env("HUBBUB_PLUGINS__VERSIONED__MIN_VERSION", version);
    let mut server = plain.clone().start().await;
    assert_eq!(deploy(&server, component("2.0.0").await, None).await.0, 200);
    server.terminate().await;

    let mut server = least(&plain, "1.5.0").start().await;
    let (status, answer) = rollback(&server).await;
    let is_named = |output: &str| output.contains("1.0.0 is older than plugins.versioned.min_version, which is 1.5.0");
    assert!(status == 422 && is_named(&answer.to_string()), "{answer}");
    let (status, output) = deploy(&server, component("1.0.0").await, None).await;
    assert!(status == 422 && is_named(&output), "{output}");
    assert_eq!(version(&server).await, "2.0.0");
    server.terminate().await;
    let output = least(&plain, "2.0.1").start_failure().await;
    assert!(output.contains("2.0.0 is older than plugins.versioned.min_version, which is 2.0.1"), "{output}");
    let output = least(&plain, "newest").start_failure().await;
    assert!(output.contains("min_version") && output.contains("must be a version, such as 1.2.0"), "{output}");
}

#[tokio::test]
async fn a_node_that_requires_signatures_refuses_unsigned_deployments() {
    let scratch = Scratch::new();
    let first = signed(&scratch, "1.0.0", 0).await;
    let second = signed(&scratch, "2.0.0", 0).await;
    let made = AtomicUsize::new(0);
    let cluster = Cluster::with(2, |node| {
        let node = node.only(&[]).plugin("versioned", &first.file);
        // Only the second node requires signatures.
        if made.fetch_add(1, Ordering::Relaxed) == 0 { node } else { node.env("HUBBUB_SIGNATURE__KEYS", &first.public) }
    })
    .await;
    let (status, output) = deploy(&cluster.nodes[0], component("2.0.0").await, None).await;
    assert!(status == 422 && output.contains("it is not signed"), "{status} {output}");
    for node in &cluster.nodes {
        assert_eq!(version(node).await, "1.0.0");
    }
    let (status, output) = deploy(&cluster.nodes[0], component("2.0.0").await, Some(&second.signature)).await;
    assert_eq!((status, json!(output.contains("2.0.0"))), (200, json!(true)), "{output}");
    for node in &cluster.nodes {
        tests::wait::eventually("the node to serve the new version", async || version(node).await == "2.0.0").await;
    }
}
