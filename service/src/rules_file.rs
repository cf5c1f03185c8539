//! The syntax of the rules file: names and types only. [`crate::rules`] has the meaning of the
//! values and their bounds.

use core::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde::{Deserialize, de};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RulesFile {
    pub(crate) rules: Vec<RuleText>,
}

/// A rule.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RuleText {
    pub(crate) name: Option<String>,
    pub(crate) domain: Option<String>,
    #[serde(rename = "match")]
    pub(crate) entries: Option<Vec<EntryText>>,
    pub(crate) has: Option<Vec<EntryText>>,
    pub(crate) limits: Vec<LimitText>,
    #[serde(default)]
    pub(crate) replaces: Vec<String>,
    #[serde(rename = "continue", default)]
    pub(crate) goes_on: bool,
    pub(crate) prefix: Option<String>,
    pub(crate) key: Option<String>,
    #[serde(default)]
    pub(crate) shadow: bool,
    #[serde(default)]
    pub(crate) reports: bool,
    #[serde(default = "yes")]
    pub(crate) lease: bool,
}

const fn yes() -> bool {
    true
}

/// An entry of `match` or `has`: `"api_key"`, or `{ key = "path", value = "/api/*", share = true }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryText {
    pub(crate) key: String,
    pub(crate) value: Option<String>,
    /// Whether all values that match share a bucket.
    pub(crate) share: bool,
}

/// A limit: `"10/s"`, or `{ limit = "10/s", name = "steady", cost = 1 }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LimitText {
    pub(crate) name: Option<String>,
    pub(crate) limit: String,
    /// What every request takes of it; `None` for the request's hits.
    pub(crate) cost: Option<u64>,
}

impl<'de> Deserialize<'de> for EntryText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            key: String,
            value: Option<String>,
            #[serde(default)]
            share: bool,
        }
        text_or_table(
            deserializer,
            "an entry key, or a table { key, value, share }",
            |key| Self { key, value: None, share: false },
            |Table { key, value, share }| Self { key, value, share },
        )
    }
}

impl<'de> Deserialize<'de> for LimitText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Table {
            name: Option<String>,
            limit: String,
            cost: Option<u64>,
        }
        text_or_table(
            deserializer,
            "a limit, or a table { limit, name, cost }",
            |limit| Self { name: None, limit, cost: None },
            |Table { name, limit, cost }| Self { name, limit, cost },
        )
    }
}

/// Deserializes a text or a table. Unlike an untagged enum, it reports what is wrong with the form
/// that was used.
fn text_or_table<'de, D, Table, T>(
    deserializer: D,
    expected: &'static str,
    from_text: fn(String) -> T,
    from_table: fn(Table) -> T,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    Table: Deserialize<'de>,
{
    struct TextOrTable<Table, T> {
        expected: &'static str,
        from_text: fn(String) -> T,
        from_table: fn(Table) -> T,
    }

    impl<'de, Table: Deserialize<'de>, T> Visitor<'de> for TextOrTable<Table, T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.expected)
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            Ok((self.from_text)(text.to_owned()))
        }

        fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<T, M::Error> {
            Table::deserialize(MapAccessDeserializer::new(map)).map(self.from_table)
        }
    }

    deserializer.deserialize_any(TextOrTable { expected, from_text, from_table })
}
