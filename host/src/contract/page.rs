//! The contract as an HTML page without scripts or further requests. Every text that is not written in this file must pass through
//! `escape`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::Value;

use super::{Contract, Emitted, Handled, Namespace, Reading, is_of_the_host, typescript};
use crate::sandbox::exports::{Door, TokenPolicy};

const STYLE: &str = "\
:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}\
body{max-width:60rem;margin:0 auto;padding:1rem 1.5rem 4rem}\
nav a{margin-right:1rem}\
h2{margin-top:3rem;border-top:1px solid #8885;padding-top:1.5rem}\
table{border-collapse:collapse;width:100%}\
th,td{text-align:left;vertical-align:top;padding:.4rem .8rem .4rem 0;border-bottom:1px solid #8883}\
code,pre{font:.85rem/1.45 ui-monospace,monospace}\
pre{margin:0;white-space:pre-wrap;overflow-wrap:anywhere}\
h2 code{font-size:1.4rem}\
table{table-layout:fixed}\
small{opacity:.7}\
";

pub fn render(contract: &Contract, reading: &Reading) -> String {
    let mut page = Page { html: String::new(), types: &contract.types };
    page.raw("<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>Hubbub: events</title>");
    page.raw("<meta name=\"viewport\" content=\"width=device-width\"><style>").raw(STYLE).raw("</style></head><body>");
    page.raw(
        "<h1>Events</h1><p>Each namespace is one of Socket.IO. Every event may ask for an acknowledgement: it is the reply, ",
    );
    page.raw(
        "<code>{}</code> where there is none, or <code>{error: {code, message, retryAfterMs?}}</code>. Without one, a refusal ",
    );
    page.raw("is the event <code>error</code>. The same for tools: <a href=\"/asyncapi.json\">asyncapi.json</a>.</p><p>Live: ");
    page.text(&contract.plugins.join(", ")).raw("</p><nav>");
    for namespace in &contract.namespaces {
        page.raw("<a href=\"#namespace-").text(&namespace.name).raw("\">").text(&namespace.path).raw("</a>");
    }
    page.raw("</nav>");
    page.reading(reading);
    for namespace in &contract.namespaces {
        page.namespace(namespace);
    }
    page.raw("<h2 id=\"types\">Types</h2>");
    for (name, schema) in &contract.types {
        page.raw("<pre id=\"type-").text(name).raw("\">").text(&typescript::declaration(name, schema)).raw("</pre>");
    }
    page.raw("</body></html>\n");
    page.html
}

/// A page under construction.
struct Page<'a> {
    html: String,
    types: &'a BTreeMap<String, Value>,
}

impl Page<'_> {
    /// Appends trusted HTML of this file.
    fn raw(&mut self, html: &'static str) -> &mut Self {
        self.html.push_str(html);
        self
    }

    /// Appends untrusted text.
    fn text(&mut self, text: &str) -> &mut Self {
        self.html.push_str(&escape(text));
        self
    }

    /// The claims that are read from a token.
    fn reading(&mut self, reading: &Reading) {
        self.raw(
            "<h2 id=\"token\">Tokens</h2><p>A namespace reads a JSON Web Token from <code>auth.token</code>, or else from the ",
        );
        self.raw(
            "header <code>Authorization: Bearer</code> of the handshake. <code>auth.token</code> may begin with <code>Bearer ",
        );
        self.raw("</code> too. Of the claims below, the first that is there and neither <code>null</code> nor empty counts. ");
        self.raw(
            "<code>exp</code> and <code>nbf</code> are seconds since 1970, whole or not. A claim of another form refuses the ",
        );
        self.raw("token.</p><table><tr><th>read<th>from the claims<th>form</tr>");
        for (what, claims, form) in reading.rows() {
            self.raw("<tr><td>").raw(what).raw("<td><code>").text(&claims.join(", ")).raw("</code><td>").raw(form).raw("</tr>");
        }
        self.raw("</table>");
    }

    fn namespace(&mut self, namespace: &Namespace) {
        self.raw("<h2 id=\"namespace-").text(&namespace.name).raw("\"><code>").text(&namespace.path).raw("</code></h2>");
        self.raw("<p>").text(&namespace.plugins.join(", ")).raw("</p>");
        self.door(namespace.door.as_ref());
        self.raw("<h3>From clients</h3><table><tr><th>event<th>payload<th>reply</tr>");
        for event in &namespace.handled {
            self.handled(event);
        }
        self.raw("</table><h3>To clients</h3><table><tr><th>event<th>payload</tr>");
        for event in &namespace.emitted {
            self.emitted(event);
        }
        self.raw("</table>");
    }

    fn door(&mut self, door: Option<&Door>) {
        let Some(door) = door else {
            self.raw("<p>The plugin that owns this namespace is not live: every connection is refused.</p>");
            return;
        };
        self.raw(match door.token {
            TokenPolicy::Optional => "<p>Anyone may connect; a token makes a user.",
            TokenPolicy::Required => "<p>Only with a token.",
        });
        if !door.claims.is_empty() {
            self.raw(" It must have ").text(&door.claims.join(", ")).raw(".");
        }
        if !door.roles.is_empty() {
            self.raw(" One of the roles ").text(&door.roles.join(", ")).raw(" is needed.");
        }
        if door.authorize {
            self.raw(" The plugin has the last word.");
        }
        self.raw("</p><table><tr><th>refused for<th>sentence</tr>");
        if door.token == TokenPolicy::Required {
            self.raw("<tr><td>no token<td>").text(&door.missing).raw("</tr>");
        }
        self.raw("<tr><td>an invalid token<td>").text(&door.invalid).raw("</tr>");
        if !door.roles.is_empty() {
            self.raw("<tr><td>another role<td>").text(&door.forbidden).raw("</tr>");
        }
        self.raw("</table>");
    }

    fn handled(&mut self, event: &Handled) {
        self.name(&event.name, std::slice::from_ref(&event.plugin));
        if let Some(sentence) = &event.on_failure {
            self.raw("<br><small>if that fails: ").text(sentence).raw("</small>");
        }
        if let Some(field) = &event.once {
            self.raw("<br><small>once for each ").text(field).raw("</small>");
        }
        self.payload(&event.payload);
        match &event.reply {
            Some(reply) => self.payload(reply),
            None => self.raw("<td><pre>{}</pre>"),
        };
        self.raw("</tr>");
    }

    fn emitted(&mut self, event: &Emitted) {
        self.name(&event.name, &event.plugins).raw("<td>");
        for payload in &event.payloads {
            self.schema(payload);
        }
        self.raw("</tr>");
    }

    fn name(&mut self, name: &str, plugins: &[String]) -> &mut Self {
        self.raw("<tr><td><code>").text(name).raw("</code>");
        if !is_of_the_host(plugins) {
            self.raw("<br><small>").text(&plugins.join(", ")).raw("</small>");
        }
        self
    }

    fn payload(&mut self, schema: &Value) -> &mut Self {
        self.raw("<td>").schema(schema)
    }

    /// A type. A named one has a fold with its declaration; the types that it refers to are listed below under their names.
    fn schema(&mut self, schema: &Value) -> &mut Self {
        let text = typescript::inline(schema);
        let Some(named) = schema.get("$ref").and_then(|_| self.types.get(&text)) else {
            return self.raw("<pre>").text(&text).raw("</pre>");
        };
        let whole = typescript::declaration(&text, named);
        self.raw("<details><summary><code>").text(&text).raw("</code></summary><pre>").text(&whole).raw("</pre></details>")
    }
}

/// Escapes text for any place of a page, attributes included.
fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['&', '<', '>', '"', '\'']) {
        return text.into();
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped.into()
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn markup_in_a_text_is_escaped() {
        assert_eq!(escape(r#"<a b="c" d='e'>&"#), "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;");
        assert_eq!(escape("Não"), "Não");
    }
}
