//! Node bindings of Tidegate
