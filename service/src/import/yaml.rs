//! YAML as a tree of texts in which every value knows its line.
//!
//! Scalars stay the texts that they are in the file, because the value of a descriptor is a text: `0404`
//! and `on` mean themselves.

use saphyr::{MarkedYaml, ScalarStyle, ScanError, YamlData, YamlLoader};
use saphyr_parser::Parser;

/// A value and its line.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) line: usize,
    pub(super) kind: Kind,
}

/// The kinds of values.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    Nothing,
    Text(String),
    List(Vec<Value>),
    Map(Vec<(String, Value)>),
}

/// Reads all documents of a file. Anchors are resolved; a key that stands twice in a map is an error.
///
/// # Errors
/// A sentence that names the line.
pub(super) fn read(text: &str) -> Result<Vec<Value>, String> {
    let mut loader = YamlLoader::<MarkedYaml<'_>>::default();
    loader.early_parse(false);
    let failed = |error: &ScanError| format!("line {}: {}", error.marker().line(), error.info());
    Parser::new_from_str(text).load(&mut loader, true).map_err(|error| failed(&error))?;
    if let Some(error) = loader.error() {
        return Err(failed(error));
    }
    loader.into_documents().into_iter().map(value).collect()
}

fn value(node: MarkedYaml<'_>) -> Result<Value, String> {
    let line = node.span.start.line();
    let kind = match node.data {
        YamlData::Representation(text, ScalarStyle::Plain, _)
            if matches!(&*text, "" | "~" | "null" | "Null" | "NULL") =>
        {
            Kind::Nothing
        }
        YamlData::Representation(text, ..) => Kind::Text(text.into_owned()),
        YamlData::Sequence(items) => {
            Kind::List(items.into_iter().map(value).collect::<Result<_, _>>()?)
        }
        YamlData::Mapping(entries) => {
            let entry = |(key, content): (MarkedYaml<'_>, _)| match key.data {
                YamlData::Representation(text, ScalarStyle::Plain, _) if text == "<<" => {
                    let line = key.span.start.line();
                    Err(format!(
                        "line {line}: merge keys (`<<`) are not read: write the fields out"
                    ))
                }
                YamlData::Representation(text, ..) => Ok((text.into_owned(), value(content)?)),
                _ => Err(format!("line {line}: the key of a map must be a text")),
            };
            Kind::Map(entries.into_iter().map(entry).collect::<Result<_, _>>()?)
        }
        YamlData::Tagged(_, inner) => value(*inner)?.kind,
        YamlData::Value(_) | YamlData::Alias(_) | YamlData::BadValue => {
            return Err(format!("line {line}: the value cannot be read"));
        }
    };
    Ok(Value { line, kind })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_stay_as_they_are_and_know_their_line() -> Result<(), String> {
        let documents = read("a: 0404\nb: [on, ~, '~']\n---\nc: &x {d: 1}\ne: *x\n")?;
        let [first, second] = &*documents else { return Err(format!("{documents:?}")) };
        let Kind::Map(first) = &first.kind else { return Err(format!("{first:?}")) };
        assert!(matches!(&first[0].1, Value { line: 1, kind: Kind::Text(text) } if text == "0404"));
        let Kind::List(items) = &first[1].1.kind else { return Err(format!("{first:?}")) };
        assert!(matches!(&items[0].kind, Kind::Text(text) if text == "on"));
        assert!(matches!(&items[1].kind, Kind::Nothing));
        assert!(matches!(&items[2].kind, Kind::Text(text) if text == "~"));
        let Kind::Map(second) = &second.kind else { return Err(format!("{second:?}")) };
        assert!(matches!(&second[1].1.kind, Kind::Map(inner) if inner.len() == 1));
        Ok(())
    }

    #[test]
    fn a_merge_key_is_refused_by_name_unless_it_is_a_text() {
        let message = read("a: &x {d: 1}\nb:\n  <<: *x\n").err().unwrap_or_default();
        assert_eq!(message, "line 3: merge keys (`<<`) are not read: write the fields out");
        assert!(read("b:\n  '<<': 1\n").is_ok());
    }

    #[test]
    fn a_key_that_stands_twice_and_wrong_yaml_are_errors_with_their_line() {
        for (text, line) in [("a: 1\nb: 2\na: 3", "line 3"), ("a: [1\nb", "line 3")] {
            let message = read(text).err().unwrap_or_default();
            assert!(message.starts_with(line), "{message}");
        }
    }
}
