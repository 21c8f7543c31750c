//! A recording of a plugin's calls, streamed by the admin port. Must never stop reading while a test waits: the server ends a
//! recording that is not read.

use reqwest::Response;
use serde_json::Value;

use crate::server::{Scratch, Server};
use crate::wait::DEADLINE;

/// A recording in progress.
#[derive(Debug)]
pub struct Recording {
    answer: Response,
    text: String,
    folder: Scratch,
}

impl Recording {
    /// Starts to record; `how` is the query. Recording has started when this returns.
    pub async fn begin(server: &Server, plugin: &str, how: &str) -> Self {
        let url = server.admin_url(&format!("/admin/plugins/{plugin}/record?{how}"));
        let answer = server.http().post(url).bearer_auth(server.admin_token()).send().await.expect("the admin port answers");
        assert_eq!(answer.status(), 200, "recording starts");
        let mut recording = Self { answer, text: String::new(), folder: Scratch::new() };
        recording.until("the header", |line| line.get("hubbubRecord").is_some()).await;
        recording
    }

    /// Waits for a matching line and returns it.
    pub async fn until(&mut self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        loop {
            if let Some(line) = self.lines().into_iter().find(&is) {
                return line;
            }
            let chunk = tokio::time::timeout(DEADLINE, self.answer.chunk()).await;
            let chunk = chunk.unwrap_or_else(|_| panic!("{what} did not arrive: {}", self.text));
            let chunk =
                chunk.expect("the recording continues").unwrap_or_else(|| panic!("no {what} in the recording: {}", self.text));
            self.text.push_str(std::str::from_utf8(&chunk).expect("whole lines of text"));
        }
    }

    /// The lines received so far.
    pub fn lines(&self) -> Vec<Value> {
        let whole = self.text.rfind('\n').map_or("", |end| &self.text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect()
    }

    pub fn text(&self) -> &str {
        &self.text
    }

    /// Writes the lines received so far to a file that exists as long as this value.
    pub fn file(&self) -> String {
        let path = self.folder.path().join("calls.jsonl");
        std::fs::write(&path, &self.text).expect("the folder is ours");
        path.display().to_string()
    }
}
