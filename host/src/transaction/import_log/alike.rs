//! Keys of a store that are another only because texts of a record are stand-ins. Decides nothing where texts are as they were.

use serde_json::Value;

/// Whether two calls of a store's import differ in one word of their key alone, which has digits and is as long in both: as a number or
/// a hash is that follows from a text. Of a record whose texts are stand-ins, they are taken for the same.
pub fn is_alike((import, args): (&str, &[Value]), (other_import, other_args): (&str, &[Value])) -> bool {
    let (Some((Value::String(key), rest)), Some((Value::String(other), other_rest))) =
        (args.split_first(), other_args.split_first())
    else {
        return false;
    };
    if import != other_import || !import.starts_with("store.") || rest != other_rest {
        return false;
    }
    let words = |key: &str| key.split(|c: char| !c.is_ascii_alphanumeric()).map(str::to_owned).collect::<Vec<_>>();
    let (one, other) = (words(key), words(other));
    let differing: Vec<_> = one.iter().zip(&other).filter(|(one, other)| one != other).collect();
    let has_digits = |word: &str| word.contains(|c: char| c.is_ascii_digit());
    one.len() == other.len()
        && matches!(differing[..], [(one, other)] if one.len() == other.len() && has_digits(one) && has_digits(other))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_that_differ_in_one_word_of_digits_are_alike() {
        let alike = |import: &str, one: Value, other: Value| {
            let args = |value: Value| value.as_array().cloned().unwrap_or_default();
            is_alike((import, &args(one)), ("store.put", &args(other)))
        };
        assert!(alike("store.put", json!(["parts/g8/05", "v"]), json!(["parts/g8/31", "v"])));
        for other in
            [json!(["parts/g9/31", "v"]), json!(["parts/g8/311", "v"]), json!(["parts/g8/ab", "v"]), json!(["parts/g8/31", "w"])]
        {
            assert!(!alike("store.put", json!(["parts/g8/05", "v"]), other.clone()), "{other}");
        }
        assert!(!alike("rooms.join", json!(["r/05"]), json!(["r/06"])) && !alike("store.get", json!(["k/1"]), json!(["k/2"])));
    }
}
