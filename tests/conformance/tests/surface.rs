//! Compares the public API of the crate `tidegate` with `tests/vectors/surface.json`.
//!
//! The bindings reflect over themselves. Rust has no reflection, so this test parses the sources:
//! it follows the modules of the crates and the `pub use` of `tidegate`, and collects the public
//! fields and the inherent methods of each exported type. Items that are `#[doc(hidden)]`, or
//! behind the feature `__bindings`, are not part of the API.
//!
//! Every exported type and every public member is in `surface.json` or in a table here, which gives
//! the reason why Rust differs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde::Deserialize;
use syn::{
    Attribute, FnArg, ImplItem, Item, Meta, Pat, Signature, TraitItem, Type, UseTree, Visibility,
};

/// How Rust has a class of `surface.json`.
struct InRust {
    class: &'static str,
    type_name: &'static str,
    /// Whether the type is a builder: its methods are the parameters of the class's constructor.
    is_builder: bool,
    /// Whether each operation also has a form that is a future, `<name>_async`.
    has_futures: bool,
    /// Members of the class that the type does not have: name, and why.
    absent: &'static [(&'static str, &'static str)],
    /// Members of the type that the class does not have: name, parameters, and why.
    additional: &'static [(&'static str, &'static [&'static str], &'static str)],
    /// Parameters with another name in Rust: method, name in the class, name in Rust.
    renamed: &'static [(&'static str, &'static str, &'static str)],
}

const SAME: InRust = InRust {
    class: "",
    type_name: "",
    is_builder: false,
    has_futures: false,
    absent: &[],
    additional: &[],
    renamed: &[],
};

const CLASSES: &[InRust] = &[
    InRust {
        class: "Concurrency",
        type_name: "Concurrency",
        has_futures: true,
        additional: &[
            ("builder", &[], "the constructor"),
            ("is_remote", &[], "whether a blocking call crosses a network"),
        ],
        ..SAME
    },
    InRust {
        class: "Concurrency",
        type_name: "ConcurrencyBuilder",
        is_builder: true,
        additional: &[
            ("store_url", &[], "a store by its URL; store takes an open one"),
            ("build", &[], "ends the builder"),
        ],
        ..SAME
    },
    InRust {
        class: "Decision",
        type_name: "Decision",
        absent: &[
            ("limit_name", "Limiter::limit_name, because a Decision is Copy"),
            ("tiers", "TieredDecision has it, so that a Decision stays small"),
        ],
        additional: &[("tier", &[], "the index of the limit, for limit_name")],
        ..SAME
    },
    InRust {
        class: "FakeClock",
        type_name: "ManualClock",
        absent: &[("now", "a method of the trait Clock")],
        additional: &[("advance_to", &["now"], "several threads may move one clock")],
        renamed: &[("advance", "by", "nanos")],
        ..SAME
    },
    InRust {
        class: "Limit",
        type_name: "Limit",
        absent: &[("name", "NamedLimit has it, because a Limit is Copy")],
        additional: &[
            ("parse", &["text"], "the constructor of other languages"),
            ("smooth", &["tokens", "period", "burst"], "a limit from numbers"),
            ("stepped", &["tokens", "period", "burst"], "a limit from numbers"),
            ("window", &["tokens", "period"], "a limit from numbers"),
            ("in_any", &["count", "window", "jitter", "burst"], "a limit from numbers"),
            ("share", &["peers"], "the engine's: one process's share"),
            ("span", &[], "the engine's: the burst on the timeline"),
            ("timeline", &[], "the engine's: positions and times"),
        ],
        ..SAME
    },
    InRust {
        class: "Limiter",
        type_name: "Limiter",
        has_futures: true,
        additional: &[
            ("builder", &[], "the constructor"),
            ("limit_name", &["decision"], "Decision.limit_name of other languages"),
            ("source", &[], "where decisions will come from, for logs and metrics"),
            ("is_remote", &[], "whether a blocking call crosses a network"),
            ("validate", &["keys", "cost"], "a server checks a whole request before it charges"),
            ("with_limits", &["limits"], "an argument of each call in other languages"),
            ("check_tiers", &["keys", "cost"], "check, with Decision.tiers of other languages"),
            ("check_tiers_async", &["keys", "cost"], "the same as a future"),
            ("peek_tiers", &["keys", "cost"], "peek, with Decision.tiers of other languages"),
            ("peek_tiers_async", &["keys", "cost"], "the same as a future"),
            ("check_many_tiers", &["checks"], "check_many, with Decision.tiers of other languages"),
            ("check_many_tiers_async", &["checks"], "the same as a future"),
        ],
        renamed: &[
            ("check", "key", "keys"),
            ("peek", "key", "keys"),
            ("reserve", "key", "keys"),
            ("acquire", "key", "keys"),
            ("waiting", "key", "keys"),
            ("settle", "key", "keys"),
            ("credit", "key", "keys"),
            ("hold", "key", "keys"),
            ("reset", "key", "keys"),
        ],
        ..SAME
    },
    InRust {
        class: "Limiter",
        type_name: "LimiterBuilder",
        is_builder: true,
        absent: &[
            ("limits", "limit, named_limit and add_limit"),
            ("peers", "a field of OnStoreError::Local"),
            (
                "per_key_calls",
                "for clients of the program's own, of which Rust takes none; a URL says it",
            ),
        ],
        additional: &[
            ("limit", &[], "one of the limits"),
            ("named_limit", &[], "one of the limits"),
            ("add_limit", &[], "one of the limits"),
            ("store_url", &[], "a store by its URL; store takes an open one"),
            ("build", &[], "ends the builder"),
        ],
        ..SAME
    },
    InRust {
        class: "TierDecision",
        type_name: "TierDecision",
        absent: &[("limit_name", "Limiter::limits, because a TierDecision is Copy")],
        additional: &[("tier", &[], "the index of the limit")],
        ..SAME
    },
    InRust {
        class: "Permit",
        type_name: "Permit",
        has_futures: true,
        absent: &[("lost", "is_lost, a question")],
        additional: &[("is_lost", &[], "lost in other languages")],
        ..SAME
    },
    InRust { class: "Pressure", type_name: "Pressure", ..SAME },
    InRust {
        class: "Reservation",
        type_name: "Reservation",
        has_futures: true,
        additional: &[("tiers", &[], "Decision.tiers of its decision in other languages")],
        ..SAME
    },
    InRust {
        class: "Signal",
        type_name: "Signal",
        additional: &[(
            "parse",
            &["status", "headers", "profile", "now"],
            "the function read_signal of other languages; SignalReader has its other options",
        )],
        ..SAME
    },
    InRust { class: "StoreHealth", type_name: "StoreHealth", ..SAME },
];

/// Types that other languages have in another form: name, why Rust has it, and its members.
const RUST_ONLY: &[(&str, &str, &[&str])] = &[
    (
        "AnyLimit",
        "Limit in other languages, which is a rate or a word",
        &["burst", "parse", "period", "rate", "shape_name", "tokens"],
    ),
    ("BreakerState", "a word in other languages", &["as_str"]),
    ("Bucket", "one bucket without a key", &["check", "check_at", "limit", "new", "with_clock"]),
    ("CallEvent", "the methods of an internal class in other languages", &[]),
    ("CallOutcome", "what a Gate learns of a call", &["as_str", "of"]),
    ("CallStep", "a step that Outbound carries out in other languages", &["is_end"]),
    (
        "CallTerms",
        "options of Outbound in other languages",
        &[
            "attempt_timeout",
            "deadline",
            "is_idempotent",
            "is_idempotent_method",
            "is_repeatable",
            "needs_permit",
            "policy",
        ],
    ),
    ("Cause", "an exception in other languages", &["get", "new"]),
    ("Clock", "a callable or an object in other languages", &["now"]),
    (
        "ControlPolicy",
        "the bounds of a Controller",
        &[
            "bounded",
            "calls_per_refusal",
            "epoch",
            "first_limit",
            "first_rate",
            "max_limit",
            "max_rate",
            "min_limit",
            "min_rate",
        ],
    ),
    (
        "ControlReport",
        "what a Controller is told",
        &["dropped", "hold", "latency", "ok", "other", "seen_limit", "seen_window", "throttled"],
    ),
    (
        "Controller",
        "the machine that finds a rate and a concurrency, in Rust alone so far",
        &["from_words", "limit", "new", "pace", "rate", "report", "words"],
    ),
    (
        "Cost",
        "a number or a sequence of one for each limit in other languages",
        &["each", "is_zero", "numbers", "of_tier", "same", "saturating_sub", "uniform"],
    ),
    ("Error", "one class for each code in other languages, by errors.json", &["code", "reason"]),
    (
        "Failure",
        "what Retry reads of a Signal",
        &["hold", "is_refusal", "should_retry", "without_response"],
    ),
    ("FastClock", "a clock for Bucket", &["new"]),
    (
        "Gate",
        "the machine of holds and of a vendor's breaker, in Rust alone so far",
        &[
            "admit",
            "forgotten_at",
            "from_words",
            "held_until",
            "look",
            "new",
            "open_until",
            "report",
            "words",
        ],
    ),
    ("GateAnswer", "what a Gate answers", &[]),
    (
        "GatePolicy",
        "the options of a Gate",
        &[
            "bounded",
            "fault_percent",
            "least_calls",
            "longest_open",
            "open_for",
            "probe_timeout",
            "probes",
            "ramp",
            "resume_wait",
            "window",
        ],
    ),
    ("GateReport", "what a Gate is told", &["faults", "hold", "of", "ok", "probe"]),
    ("GiveUp", "a word in other languages", &["as_str"]),
    ("HoldScope", "a word in other languages", &["as_str"]),
    ("Keys", "one key or one for each limit, which other languages tell by type", &[]),
    ("LeaseOptions", "a dict or an object in other languages", &["max_share", "new"]),
    ("Limits", "a text or an object in other languages", &["len", "named", "new", "parse"]),
    ("Meaning", "a word in other languages", &["as_str", "parse"]),
    ("MonotonicClock", "a clock for Bucket", &["new"]),
    ("NamedLimit", "Limit with a name in other languages", &["limit", "name", "parse"]),
    ("OnFull", "a word in other languages", &["as_str", "parse"]),
    ("OnStoreError", "a word in other languages", &["parse"]),
    (
        "Operation",
        "the engine's operations, for hosts that store buckets themselves",
        &[
            "changes_hold",
            "check_costs",
            "correction",
            "kind",
            "map_costs",
            "returned",
            "returning_less",
        ],
    ),
    ("Outcome", "the outcome of an Operation", &["from_source", "map_decision"]),
    (
        "OutboundCall",
        "the machine behind Outbound in other languages",
        &["has_permit", "new", "next", "sends", "start"],
    ),
    (
        "Profile",
        "a name or a list of rows in other languages",
        &["named", "margin", "name", "of_host", "refills", "rows", "scope", "unstated_hold"],
    ),
    ("Reserved", "the outcome of Operation::Reserve", &[]),
    (
        "Retry",
        "the retries of one call, which Outbound counts in other languages",
        &["failed", "new", "retries"],
    ),
    ("RetryBudget", "options of Retry in other languages", &["call", "new", "retries"]),
    ("RetryPolicy", "options of Retry in other languages", &["attempts", "base", "longest"]),
    (
        "Row",
        "a dict or an object in other languages",
        &["group", "header", "meaning", "new", "unit"],
    ),
    ("Shape", "a word in other languages", &["as_str"]),
    ("SignalKind", "a word in other languages", &["as_str"]),
    (
        "SignalReader",
        "one call of read_signal in other languages",
        &["body", "finish", "header", "new"],
    ),
    ("Source", "a word in other languages", &["as_str", "parse"]),
    (
        "Store",
        "limiters on one URL share a store in other languages",
        &["on_change", "open", "open_on", "ping"],
    ),
    (
        "StoreChange",
        "a line of the log in other languages",
        &["error", "is_warning", "lasted", "notice", "store"],
    ),
    (
        "StoreFailure",
        "the message and the cause of StoreError in other languages",
        &["cause", "message", "new"],
    ),
    ("StoreNotice", "a line of the log in other languages", &[]),
    (
        "TieredDecision",
        "a Decision in other languages",
        &["decision", "from_source", "new", "tiers"],
    ),
    (
        "StoredKey",
        "the form in which a store keeps a key, for hosts that store buckets themselves",
        &["as_bytes", "is_digest", "new", "text"],
    ),
    ("TransportFailure", "an exception in other languages", &["as_str", "parse"]),
    ("Unit", "a word in other languages", &["as_str", "parse"]),
    ("Waiting", "a record in other languages", &["callers", "tokens", "until"]),
    ("WallClock", "a clock for Bucket", &[]),
];

#[derive(Deserialize)]
struct Surface {
    classes: BTreeMap<String, Class>,
}

#[derive(Deserialize)]
struct Class {
    #[serde(default)]
    fields: Vec<String>,
    #[serde(default)]
    constructor: Vec<String>,
    #[serde(default)]
    methods: BTreeMap<String, Vec<String>>,
}

/// Public fields and methods, with the parameters of the methods.
type Members = BTreeMap<String, Vec<String>>;

#[test]
fn every_class_of_surface_json_has_the_same_members_in_rust() -> serde_json::Result<()> {
    let surface: Surface = serde_json::from_str(include_str!("../../vectors/surface.json"))?;
    let api = exported_api();
    let described: BTreeSet<_> = CLASSES.iter().map(|it| it.class).collect();
    assert_eq!(described, surface.classes.keys().map(String::as_str).collect());
    for in_rust in CLASSES {
        let mut found = api[in_rust.type_name].clone();
        if in_rust.is_builder {
            found.values_mut().for_each(Vec::clear);
        }
        let expected = expected_members(in_rust, &surface.classes[in_rust.class]);
        assert_eq!(differences(&found, &expected), Vec::<String>::new(), "{}", in_rust.type_name);
    }
    Ok(())
}

#[test]
fn every_other_exported_type_is_listed_with_its_members() {
    let of_classes: BTreeSet<_> = CLASSES.iter().map(|it| it.type_name).collect();
    let found = exported_api()
        .into_iter()
        .filter(|(name, _)| !of_classes.contains(name.as_str()))
        .map(|(name, members)| (name, members.into_keys().collect()))
        .collect();
    let sorted = |names: &[&str]| {
        names.iter().map(ToString::to_string).collect::<BTreeSet<_>>().into_iter().collect()
    };
    let listed = RUST_ONLY.iter().map(|it| (it.0.to_owned(), sorted(it.2))).collect();
    assert_eq!(differences(&found, &listed), Vec::<String>::new());
}

/// One sentence for each name that differs.
fn differences(
    found: &BTreeMap<String, Vec<String>>,
    expected: &BTreeMap<String, Vec<String>>,
) -> Vec<String> {
    let names: BTreeSet<_> = found.keys().chain(expected.keys()).collect();
    let compare = |name: &String| match (found.get(name), expected.get(name)) {
        (Some(found), Some(expected)) if found == expected => None,
        (Some(found), Some(expected)) => Some(format!("{name} is {found:?}, not {expected:?}")),
        (Some(_), None) => Some(format!("{name} is exported, but not listed")),
        (None, _) => Some(format!("{name} is listed, but not exported")),
    };
    names.into_iter().filter_map(compare).collect()
}

/// The members that the type must have for the class.
fn expected_members(in_rust: &InRust, class: &Class) -> Members {
    let mut members = Members::new();
    if in_rust.is_builder {
        members.extend(class.constructor.iter().map(|name| (name.clone(), Vec::new())));
    } else {
        members.extend(class.fields.iter().map(|name| (name.clone(), Vec::new())));
        for (method, parameters) in &class.methods {
            let parameters: Vec<_> =
                parameters.iter().map(|name| name_in_rust(in_rust, method, name)).collect();
            // These are no operations on a bucket.
            let is_local = ["close", "waiting", "set_limit"].contains(&&**method);
            if in_rust.has_futures && !is_local {
                members.insert(format!("{method}_async"), parameters.clone());
            }
            members.insert(method.clone(), parameters);
        }
        if !class.constructor.is_empty()
            && !CLASSES.iter().any(|it| it.is_builder && it.class == in_rust.class)
        {
            members.insert("new".to_owned(), class.constructor.clone());
        }
    }
    for (name, _) in in_rust.absent {
        members.remove(&format!("{name}_async"));
        assert!(members.remove(*name).is_some(), "{}.{name} is not in surface.json", in_rust.class);
    }
    for (name, parameters, _) in in_rust.additional {
        let parameters = parameters.iter().map(ToString::to_string).collect();
        let replaced = members.insert((*name).to_owned(), parameters);
        assert_eq!(replaced, None, "{}.{name} is in surface.json", in_rust.class);
    }
    members
}

fn name_in_rust(in_rust: &InRust, method: &str, parameter: &str) -> String {
    let renamed = in_rust.renamed.iter().find(|it| (it.0, it.1) == (method, parameter));
    renamed.map_or(parameter, |it| it.2).to_owned()
}

/// The types and traits that `tidegate` exports, and their members.
fn exported_api() -> BTreeMap<String, Members> {
    let crates = [
        ("tidegate_core", Sources::read("core")),
        ("tidegate_protocol", Sources::read("runtime/protocol")),
        ("", Sources::read("runtime")),
    ];
    let mut exports = Vec::new();
    for item in &crates[2].1.root {
        if let Item::Use(item) = item
            && is_public(&item.vis, &item.attrs)
        {
            collect_exports(&item.tree, "", &mut exports);
        }
    }
    assert!(exports.len() > 20, "{exports:?}");
    let find = |origin: &str, name: &str| {
        let of_crate = crates.iter().find(|it| it.0 == origin).unwrap_or(&crates[2]);
        of_crate.1.members(name)
    };
    exports.into_iter().map(|(origin, name)| (name.clone(), find(&origin, &name))).collect()
}

/// Adds the names of a `use`, each with the first segment of its path.
fn collect_exports(tree: &UseTree, origin: &str, exports: &mut Vec<(String, String)>) {
    match tree {
        UseTree::Path(path) => {
            let first = path.ident.to_string();
            collect_exports(&path.tree, if origin.is_empty() { &first } else { origin }, exports);
        }
        UseTree::Group(group) => {
            group.items.iter().for_each(|tree| collect_exports(tree, origin, exports));
        }
        UseTree::Name(name) => exports.push((origin.to_owned(), name.ident.to_string())),
        UseTree::Rename(_) | UseTree::Glob(_) => panic!("tidegate exports items by their names"),
    }
}

/// The parsed sources of one crate.
struct Sources {
    /// The items of `lib.rs`.
    root: Vec<Item>,
    /// The items of all modules below it.
    modules: Vec<Item>,
}

impl Sources {
    fn read(folder: &str) -> Self {
        let file =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(folder).join("src/lib.rs");
        let root = parse(&file);
        let mut modules = Vec::new();
        read_modules(&file, &root, &mut modules);
        Self { root, modules }
    }

    /// The public members of a type or trait of the crate.
    fn members(&self, name: &str) -> Members {
        let mut definitions = 0;
        let mut members = Members::new();
        for item in &self.modules {
            match item {
                Item::Struct(item) if item.ident == name => {
                    definitions += 1;
                    let public = item.fields.iter().filter(|it| is_public(&it.vis, &it.attrs));
                    members.extend(
                        public.filter_map(|it| Some((it.ident.as_ref()?.to_string(), Vec::new()))),
                    );
                }
                Item::Enum(item) if item.ident == name => definitions += 1,
                Item::Trait(item) if item.ident == name => {
                    definitions += 1;
                    for item in &item.items {
                        if let TraitItem::Fn(method) = item {
                            members.insert(method.sig.ident.to_string(), parameters(&method.sig));
                        }
                    }
                }
                Item::Impl(block) if block.trait_.is_none() && is_named(&block.self_ty, name) => {
                    for item in &block.items {
                        if let ImplItem::Fn(method) = item
                            && is_public(&method.vis, &method.attrs)
                        {
                            members.insert(method.sig.ident.to_string(), parameters(&method.sig));
                        }
                    }
                }
                _ => {}
            }
        }
        assert_eq!(definitions, 1, "definitions of {name}");
        members
    }
}

fn parse(file: &Path) -> Vec<Item> {
    let text =
        fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let parsed =
        syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    parsed.items.into_iter().filter(|item| !is_excluded(attributes(item))).collect()
}

/// Reads the files of the modules that `items` declares, `file` being theirs.
fn read_modules(file: &Path, items: &[Item], modules: &mut Vec<Item>) {
    let is_root = file.file_name().is_some_and(|name| name == "lib.rs" || name == "mod.rs");
    let folder = if is_root { file.with_file_name("") } else { file.with_extension("") };
    for item in items {
        let Item::Mod(module) = item else { continue };
        if module.content.is_some() || module.attrs.iter().any(|it| it.path().is_ident("path")) {
            continue;
        }
        let name = module.ident.to_string();
        let files = [folder.join(format!("{name}.rs")), folder.join(&name).join("mod.rs")];
        let file = files.iter().find(|file| file.is_file());
        let file = file.unwrap_or_else(|| panic!("the module {name} has no file in {folder:?}"));
        let items = parse(file);
        read_modules(file, &items, modules);
        modules.extend(items);
    }
}

/// The names of a function's parameters, without `self`.
fn parameters(signature: &Signature) -> Vec<String> {
    let named = signature.inputs.iter().filter_map(|input| match input {
        FnArg::Receiver(_) => None,
        FnArg::Typed(parameter) => match &*parameter.pat {
            Pat::Ident(pattern) => Some(pattern.ident.to_string()),
            _ => panic!("a parameter of {} has no name", signature.ident),
        },
    });
    named.collect()
}

fn is_named(found: &Type, name: &str) -> bool {
    let Type::Path(path) = found else { return false };
    path.path.segments.last().is_some_and(|segment| segment.ident == name)
}

fn is_public(visibility: &Visibility, attributes: &[Attribute]) -> bool {
    matches!(visibility, Visibility::Public(_)) && !is_excluded(attributes)
}

/// Whether the item is hidden, only for the bindings, or only for tests.
fn is_excluded(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let Meta::List(list) = &attribute.meta else { return false };
        let tokens = list.tokens.to_string();
        (list.path.is_ident("doc") && tokens == "hidden")
            || (list.path.is_ident("cfg") && (tokens == "test" || tokens.contains("__bindings")))
    })
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Enum(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}
