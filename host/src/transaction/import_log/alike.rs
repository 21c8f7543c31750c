//! Store keys that differ only because texts of the recording are stand-ins. Not used for recordings without stand-ins.

use serde_json::Value;

/// Whether two calls of one store import differ in one word of their key only, which has digits and the same length in both, like
/// a number or hash derived from a text. In a recording with stand-ins they count as equal.
pub fn is_alike((import, args): (&str, &[Value]), (other_import, other_args): (&str, &[Value])) -> bool {
    let (Some((Value::String(key), rest)), Some((Value::String(other), other_rest))) =
        (args.split_first(), other_args.split_first())
    else {
        return false;
    };
    import == other_import && import.starts_with("store.") && rest == other_rest && key != other && is_sibling(key, other)
}

/// Removes puts of lists that are split over keys by a hash of their items' texts. With stand-ins an item is in the list of
/// another key, but the lists of all these keys together have the same items.
pub fn remove_split_lists(was: &mut Vec<Value>, is: &mut Vec<Value>) {
    let mut at = 0;
    while at < was.len() {
        let Some(key) = put_list(&was[at]).map(|(key, _)| key.to_owned()) else {
            at += 1;
            continue;
        };
        if items(was, &key) == items(is, &key) {
            let is_other = |effect: &Value| !is_part(effect, &key);
            was.retain(is_other);
            is.retain(is_other);
        } else {
            at += 1;
        }
    }
}

/// Whether two keys are equal, or differ in one word that has digits and the same length in both.
fn is_sibling(key: &str, other: &str) -> bool {
    if key == other {
        return true;
    }
    let words = |key: &str| key.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_owned).collect::<Vec<_>>();
    let (one, other) = (words(key), words(other));
    let differing: Vec<_> = one.iter().zip(&other).filter(|(one, other)| one != other).collect();
    let has_digits = |word: &str| word.contains(|c: char| c.is_ascii_digit());
    one.len() == other.len()
        && matches!(differing[..], [(one, other)] if one.len() == other.len() && has_digits(one) && has_digits(other))
}

/// The key and the items of an effect that puts a list.
fn put_list(effect: &Value) -> Option<(&str, &Vec<Value>)> {
    let is_put = effect["import"] == "store.put";
    let key = effect["args"][0].as_str().filter(|_| is_put)?;
    Some((key, effect["args"][1]["utf8"].as_array()?))
}

fn is_part(effect: &Value, key: &str) -> bool {
    put_list(effect).is_some_and(|(other, _)| is_sibling(key, other))
}

/// The items of all lists put under a key or its siblings, sorted.
fn items(effects: &[Value], key: &str) -> Vec<String> {
    let lists = effects.iter().filter(|effect| is_part(effect, key)).filter_map(put_list);
    let mut items: Vec<String> = lists.flat_map(|(_, items)| items.iter().map(Value::to_string)).collect();
    items.sort_unstable();
    items
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_list_split_over_other_keys_is_equal() {
        let put = |key: &str, items: Value| json!({"import": "store.put", "args": [key, {"utf8": items}]});
        let was = || vec![put("parts/c1/05", json!([1])), put("parts/c1/31", json!([2])), put("other/c1", json!("x"))];
        let remaining = |mut is: Vec<Value>| {
            let mut was = was();
            remove_split_lists(&mut was, &mut is);
            (was.len(), is.len())
        };
        assert_eq!(remaining(vec![put("parts/c1/07", json!([2, 1])), put("other/c1", json!("x"))]), (1, 1));
        assert_eq!(remaining(vec![put("parts/c1/07", json!([2, 3]))]), (3, 1), "another item");
        assert_eq!(remaining(vec![put("parts/d2/07", json!([2, 1]))]), (3, 1), "keys that differ in two words");
    }

    #[test]
    fn keys_that_differ_in_one_word_with_digits_are_alike() {
        let alike = |import: &str, one: Value, other: Value| {
            let args = |value: Value| value.as_array().cloned().unwrap_or_default();
            is_alike((import, &args(one)), ("store.put", &args(other)))
        };
        assert!(alike("store.put", json!(["parts/g8/05", "v"]), json!(["parts/g8/31", "v"])));
        let others = ["parts/g9/31", "parts/g8/311", "parts/g8/ab", "parts:g8/05", "parts/g8/05"].map(|key| json!([key, "v"]));
        for other in others.into_iter().chain([json!(["parts/g8/31", "w"])]) {
            assert!(!alike("store.put", json!(["parts/g8/05", "v"]), other.clone()), "{other}");
        }
        assert!(!alike("rooms.join", json!(["r/05"]), json!(["r/06"])) && !alike("store.get", json!(["k/1"]), json!(["k/2"])));
    }
}
