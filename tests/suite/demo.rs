//! The demo page with two people in a real browser. Must never call the page's scripts: tests type, click and read.

use tests::server::Scratch;
use tests::{Browser, Server};

#[tokio::test]
async fn two_tabs_chat_and_survive_a_restart() {
    // Runs like `make run`: in the checkout, with plugins built from source.
    let mut server = Server::dev().folder(&tests::checkout_dir()).start().await;
    let mut browser = Browser::start();
    for (tab, person) in [("one", "Ana"), ("two", "Bia")] {
        browser.open(tab, &server.url("/")).await;
        browser.type_into(tab, "name", person).await;
        browser.click(tab, "enter").await;
    }
    browser.sees("one", "members", "Bia").await;
    browser.sees("two", "members", "Ana").await;

    browser.type_into("one", "message", "hello from Ana").await;
    browser.sees("two", "typing", "Ana").await;
    browser.click("one", "send").await;
    browser.sees("two", "messages", "hello from Ana").await;
    browser.type_into("two", "message", "<script>alert(1)</script>well, hello").await;
    browser.click("two", "send").await;
    browser.sees("one", "messages", "well, hello").await;

    server.terminate().await;
    for tab in ["one", "two"] {
        browser.sees(tab, "state", "Reconnecting").await;
    }
    server.start_again().await;
    browser.type_into("two", "message", "still here?").await;
    browser.click("two", "send").await;
    browser.sees("one", "messages", "still here?").await;
    for text in ["hello from Ana", "still here?"] {
        assert_eq!(browser.count("one", "messages", text).await, 1, "{text} once");
    }

    let scratch = Scratch::new();
    let kept = std::env::var_os("HUBBUB_SCREENSHOT").map(std::path::PathBuf::from);
    let picture = kept.unwrap_or_else(|| scratch.path().join("demo.png"));
    browser.screenshot("one", &picture).await;
    let bytes = std::fs::read(&picture).expect("the screenshot is there");
    assert!(bytes.starts_with(b"\x89PNG") && bytes.len() > 5_000, "a picture of {} bytes", bytes.len());
}
