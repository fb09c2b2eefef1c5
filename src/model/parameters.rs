//! Named parameter arrays, in one fixed order.

use std::collections::BTreeMap;
use std::sync::Arc;

use mlx_rs::Array;
use mlx_rs::error::{Exception, Result};

/// The names of a model's parameters, `h.0.attn.c_attn.weight` as in GPT-2, sorted.
pub type Names = Arc<[String]>;

/// A model's parameters, or anything that goes with them one to one, such as an optimizer's moments.
///
/// Cloning copies handles, not numbers.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    names: Names,
    arrays: Vec<Array>,
}

impl From<&Parameters> for BTreeMap<String, Array> {
    fn from(parameters: &Parameters) -> Self {
        let entries = parameters.iter();
        entries.map(|(name, array)| (name.to_owned(), array.clone())).collect()
    }
}

impl Parameters {
    /// Arrays of any shape, in the order of `names`.
    ///
    /// # Errors
    /// Fewer or more arrays than names.
    pub fn new(names: &Names, arrays: Vec<Array>) -> Result<Self> {
        if arrays.len() != names.len() {
            return Err(Exception::custom(format!(
                "{} arrays for {} parameters",
                arrays.len(),
                names.len()
            )));
        }
        Ok(Self {
            names: Arc::clone(names),
            arrays,
        })
    }

    /// Names with arrays of any shape, in any order.
    pub fn from_entries(mut entries: Vec<(String, Array)>) -> Self {
        entries.sort_by(|a, b| a.0.cmp(&b.0));
        let (names, arrays): (Vec<_>, Vec<_>) = entries.into_iter().unzip();
        Self {
            names: names.into(),
            arrays,
        }
    }

    /// The array of that name, in its own shape.
    ///
    /// # Errors
    /// The model has no such parameter.
    pub fn get(&self, name: &str) -> Result<&Array> {
        self.names
            .binary_search_by(|known| known.as_str().cmp(name))
            .map(|at| &self.arrays[at])
            .map_err(|_| Exception::custom(format!("the model has no parameter {name}")))
    }

    /// Number of elements of all arrays.
    pub fn count(&self) -> usize {
        self.arrays.iter().map(Array::size).sum()
    }

    /// The names, sorted.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// The arrays, in their own shapes, sorted by name.
    pub fn arrays(&self) -> &[Array] {
        &self.arrays
    }

    /// Drops the arrays and keeps the names.
    pub(crate) fn drop_arrays(&mut self) {
        self.arrays.clear();
    }

    /// Names with their arrays, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Array)> {
        self.names.iter().map(String::as_str).zip(&self.arrays)
    }

    /// The same names, with each array mapped by `f`, which may change its shape.
    ///
    /// # Errors
    /// Those of `f`.
    pub fn map(&self, f: impl Fn(&Array) -> Result<Array>) -> Result<Self> {
        Ok(Self {
            names: Arc::clone(&self.names),
            arrays: self.arrays.iter().map(f).collect::<Result<_>>()?,
        })
    }

    /// The parameters for which `choose` is true, and the others.
    pub fn partition(&self, choose: impl Fn(&str, &Array) -> bool) -> (Self, Self) {
        let entries = self.iter().map(|(name, array)| (name.to_owned(), array.clone()));
        let (chosen, others) = entries.partition(|(name, array)| choose(name, array));
        (Self::from_entries(chosen), Self::from_entries(others))
    }

    /// The union of both sets, which must have no name in common.
    pub fn union(&self, others: &Self) -> Self {
        let all = self.iter().chain(others.iter());
        Self::from_entries(all.map(|(name, array)| (name.to_owned(), array.clone())).collect())
    }

    /// The parameters whose names begin with `prefix` and a dot, with their full names.
    pub fn with_prefix(&self, prefix: &str) -> Self {
        let inside = |name: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'));
        self.partition(|name, _| inside(name)).0
    }

    /// A view of the parameters whose names begin with `prefix` and a dot, as by `pp` of candle's `VarBuilder`.
    pub fn under(&self, prefix: &str) -> Scope<'_> {
        Scope {
            parameters: self,
            prefix: prefix.to_owned(),
        }
    }
}

/// The parameters with a common prefix, from which a layer is built.
pub struct Scope<'a> {
    parameters: &'a Parameters,
    prefix: String,
}

impl Scope<'_> {
    /// The layer's own name, without the dot.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The parameter `prefix.name`, in its own shape.
    ///
    /// # Errors
    /// The model has no such parameter.
    pub fn array(&self, name: &str) -> Result<Array> {
        Ok(self.parameters.get(&format!("{}.{name}", self.prefix))?.clone())
    }

    /// The scope `prefix.name`.
    pub fn under(&self, name: &str) -> Self {
        Self {
            parameters: self.parameters,
            prefix: format!("{}.{name}", self.prefix),
        }
    }
}
