//! MLX's compiled functions, from one struct of named arrays to another.

use std::cell::RefCell;
use std::rc::Rc;

use mlx_rs::Array;
use mlx_rs::error::{Exception, Result};
use mlx_rs::transforms::compile::compile;
use mlx_rs::transforms::eval;

/// A value made of arrays, in a fixed order, which JAX and MLX call a pytree: what a compiled function takes or returns.
pub trait ArrayTree: Sized {
    /// A value of the same structure, with `f` of each array in its place.
    ///
    /// # Errors
    /// Those of `f`.
    fn tree_map(&self, f: &mut impl FnMut(&Array) -> Result<Array>) -> Result<Self>;
}

impl ArrayTree for Array {
    fn tree_map(&self, f: &mut impl FnMut(&Array) -> Result<Array>) -> Result<Self> {
        f(self)
    }
}

impl<A: ArrayTree> ArrayTree for Vec<A> {
    fn tree_map(&self, f: &mut impl FnMut(&Array) -> Result<Array>) -> Result<Self> {
        self.iter().map(|value| value.tree_map(f)).collect()
    }
}

impl<A: ArrayTree> ArrayTree for Option<A> {
    fn tree_map(&self, f: &mut impl FnMut(&Array) -> Result<Array>) -> Result<Self> {
        self.as_ref().map(|value| value.tree_map(f)).transpose()
    }
}

/// Implements [`ArrayTree`] for structs by their fields.
macro_rules! array_tree {
    ($($name:ident { $($field:ident),* })*) => {
        $(impl $crate::compute::compiled::ArrayTree for $name {
            fn tree_map(
                &self,
                f: &mut impl FnMut(&mlx_rs::Array) -> mlx_rs::error::Result<mlx_rs::Array>,
            ) -> mlx_rs::error::Result<Self> {
                Ok(Self { $($field: self.$field.tree_map(f)?),* })
            }
        })*
    };
}
pub(crate) use array_tree;

/// Evaluates all arrays of a value, of any shapes.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn tree_eval(value: &impl ArrayTree) -> Result<()> {
    eval(tree_flatten(value)?.0.iter())
}

/// The arrays of a value as a list, and the value with a scalar in the place of each.
fn tree_flatten<A: ArrayTree>(value: &A) -> Result<(Vec<Array>, A)> {
    let (mut list, scalar) = (Vec::new(), Array::from_f32(0.0));
    let structure = value.tree_map(&mut |array| {
        list.push(array.clone());
        Ok(scalar.clone())
    })?;
    Ok((list, structure))
}

/// The value of that structure with the arrays of the list.
fn tree_unflatten<A: ArrayTree>(structure: &A, list: &[Array]) -> Result<A> {
    let mut list = list.iter();
    let value = structure.tree_map(&mut |_| list.next().cloned().ok_or_else(structure_mismatch))?;
    match list.next() {
        None => Ok(value),
        Some(_) => Err(structure_mismatch()),
    }
}

fn structure_mismatch() -> Exception {
    Exception::custom("a compiled function was given or returned arrays of another structure")
}

/// A compiled function. It belongs to the thread that made it.
pub type Compiled<I, O> = Box<dyn FnMut(I) -> Result<O>>;

/// Compiles a pure function: MLX traces it and fuses its operations at its first call for each set of shapes. Captured
/// values become constants of the trace, so anything that varies must be an input. The structure of the outputs is the same
/// in every call.
///
/// The inputs are dropped before anything is computed, so that MLX can write results into their buffers.
pub fn compiled<I: ArrayTree + 'static, O: ArrayTree + 'static>(
    function: impl Fn(I) -> Result<O> + 'static,
) -> Compiled<I, O> {
    // MLX compiles functions of lists of arrays; these two slots carry the structures of inputs and outputs past it. Each
    // call sets the inputs' structure before MLX is called. Only a trace runs the closure below, which takes it and leaves
    // the outputs' structure; later calls with the same shapes reuse that.
    let inputs_are: Rc<RefCell<Option<I>>> = Rc::default();
    let outputs_are: Rc<RefCell<Option<O>>> = Rc::default();
    let (inside, traced) = (Rc::clone(&inputs_are), Rc::clone(&outputs_are));
    let mut call = compile(
        move |list: &[Array]| -> Result<Vec<Array>> {
            let structure = inside.take().ok_or_else(structure_mismatch)?;
            let (list, structure) = tree_flatten(&function(tree_unflatten(&structure, list)?)?)?;
            traced.replace(Some(structure));
            Ok(list)
        },
        false,
    );
    Box::new(move |inputs| {
        let (list, structure) = tree_flatten(&inputs)?;
        inputs_are.replace(Some(structure));
        let outputs = call(&list)?;
        tree_unflatten(outputs_are.borrow().as_ref().ok_or_else(structure_mismatch)?, &outputs)
    })
}
