//! A real headless browser. A test opens pages, types and reads as a person would. Must never look behind the page: a test
//! asserts only what the page shows.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::process::JsonLines;

/// Longer than the driver's own deadline of 20 s, so that the driver's error reaches the test.
const ANSWER: Duration = Duration::from_secs(60);

/// A browser. Dropping it closes it. The test names its tabs.
pub struct Browser {
    driver: JsonLines,
}

/// The result of watching an element.
#[derive(Debug)]
pub struct Watched {
    /// The element's text after each change.
    pub texts: Vec<String>,
    /// The longest task of the page's own thread, during which the page does not respond. Zero if no task took 50 ms.
    pub longest_task: Duration,
}

impl Browser {
    pub fn start() -> Self {
        let script = crate::package_dir().join("clients/browser.mjs");
        Self { driver: JsonLines::start(&PathBuf::from("node"), &script) }
    }

    /// Opens a page in a new tab that has storage of its own, as on another machine.
    pub async fn open(&mut self, tab: &str, url: &str) {
        self.go(json!({"do": "open", "tab": tab, "url": url})).await;
    }

    /// Types a text into the field with that `data-testid`, key by key.
    pub async fn type_into(&mut self, tab: &str, testid: &str, text: &str) {
        self.go(json!({"do": "type", "tab": tab, "testid": testid, "text": text})).await;
    }

    pub async fn click(&mut self, tab: &str, testid: &str) {
        self.go(json!({"do": "click", "tab": tab, "testid": testid})).await;
    }

    /// Chooses an option, by its value, in the list with that `data-testid`.
    pub async fn select(&mut self, tab: &str, testid: &str, option: &str) {
        self.go(json!({"do": "select", "tab": tab, "testid": testid, "option": option})).await;
    }

    /// Chooses a file in the field with that `data-testid`.
    pub async fn choose(&mut self, tab: &str, testid: &str, file: &Path) {
        self.go(json!({"do": "choose", "tab": tab, "testid": testid, "file": file.display().to_string()})).await;
    }

    /// Sets the size of the window.
    pub async fn resize(&mut self, tab: &str, width: u32, height: u32) {
        self.go(json!({"do": "resize", "tab": tab, "width": width, "height": height})).await;
    }

    /// Waits until the element shows the text.
    pub async fn sees(&mut self, tab: &str, testid: &str, text: &str) {
        self.go(json!({"do": "see", "tab": tab, "testid": testid, "text": text})).await;
    }

    /// Counts the occurrences of `text` in the element's text.
    pub async fn count(&mut self, tab: &str, testid: &str, text: &str) -> u64 {
        let answer = self.go(json!({"do": "count", "tab": tab, "testid": testid, "text": text})).await;
        answer["count"].as_u64().expect("the driver counts")
    }

    /// Starts to collect the element's text at each change and the duration of the longest task of the page's thread.
    pub async fn watch(&mut self, tab: &str, testid: &str) {
        self.go(json!({"do": "watch", "tab": tab, "testid": testid})).await;
    }

    /// Ends a [`watch`](Self::watch) and returns its result.
    pub async fn watched(&mut self, tab: &str) -> Watched {
        let answer = self.go(json!({"do": "watched", "tab": tab})).await;
        let texts = answer["texts"].as_array().expect("the driver lists texts").iter();
        let longest = answer["longestMs"].as_f64().expect("the driver measures");
        Watched {
            texts: texts.filter_map(|text| text.as_str().map(str::to_owned)).collect(),
            longest_task: Duration::from_secs_f64(longest / 1e3),
        }
    }

    /// The elements that are wider than their container or extend beyond the window.
    pub async fn overflowing(&mut self, tab: &str) -> Vec<String> {
        let answer = self.go(json!({"do": "overflowing", "tab": tab})).await;
        let found = answer["found"].as_array().expect("the driver lists elements");
        found.iter().filter_map(|element| element.as_str().map(str::to_owned)).collect()
    }

    /// Saves what the tab shows as a PNG.
    pub async fn screenshot(&mut self, tab: &str, file: &Path) {
        self.go(json!({"do": "screenshot", "tab": tab, "file": file.display().to_string()})).await;
    }

    async fn go(&mut self, step: Value) -> Value {
        self.driver.send(&step).await;
        let answer = self.driver.receive(ANSWER).await.unwrap_or_else(|| panic!("the browser did not answer {step}"));
        assert_eq!(answer["failed"], Value::Null, "{step}");
        answer
    }
}
