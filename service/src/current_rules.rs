//! The rules in force, which a reload replaces while requests are decided.

use std::sync::{Arc, PoisonError, RwLock};

use crate::rules::RuleSet;

/// The rules in force.
#[derive(Debug)]
pub(crate) struct CurrentRules(RwLock<Arc<RuleSet>>);

impl CurrentRules {
    pub(crate) fn new(rules: RuleSet) -> Self {
        Self(RwLock::new(Arc::new(rules)))
    }

    /// The rules for one request, which stay the same until it is answered.
    pub(crate) fn get(&self) -> Arc<RuleSet> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Puts other rules in force; returns the old ones.
    pub(crate) fn replace(&self, rules: RuleSet) -> Arc<RuleSet> {
        let mut current = self.0.write().unwrap_or_else(PoisonError::into_inner);
        core::mem::replace(&mut *current, Arc::new(rules))
    }
}
