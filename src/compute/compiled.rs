//! MLX's compiled functions, from one struct of named arrays to another.

use std::cell::RefCell;
use std::rc::Rc;

use mlx_rs::Array;
use mlx_rs::error::{Exception, Result};
use mlx_rs::transforms::compile::compile;
use mlx_rs::transforms::eval;

/// A value made of arrays, in a fixed order: what a compiled function takes or returns.
pub trait Arrays: Sized {
    /// A value of the same structure, with `f` of each array in its place.
    ///
    /// # Errors
    /// Those of `f`.
    fn map_arrays(&self, f: &mut impl FnMut(&Array) -> Result<Array>) -> Result<Self>;
}

impl Arrays for Array {
    fn map_arrays(&self, f: &mut impl FnMut(&Array) -> Result<Array>) -> Result<Self> {
        f(self)
    }
}

impl<A: Arrays> Arrays for Vec<A> {
    fn map_arrays(&self, f: &mut impl FnMut(&Array) -> Result<Array>) -> Result<Self> {
        self.iter().map(|value| value.map_arrays(f)).collect()
    }
}

impl<A: Arrays> Arrays for Option<A> {
    fn map_arrays(&self, f: &mut impl FnMut(&Array) -> Result<Array>) -> Result<Self> {
        self.as_ref().map(|value| value.map_arrays(f)).transpose()
    }
}

/// Implements [`Arrays`] for structs by their fields.
macro_rules! arrays {
    ($($name:ident { $($field:ident),* })*) => {
        $(impl $crate::compute::compiled::Arrays for $name {
            fn map_arrays(
                &self,
                f: &mut impl FnMut(&mlx_rs::Array) -> mlx_rs::error::Result<mlx_rs::Array>,
            ) -> mlx_rs::error::Result<Self> {
                Ok(Self { $($field: self.$field.map_arrays(f)?),* })
            }
        })*
    };
}
pub(crate) use arrays;

/// Evaluates all arrays of a value, of any shapes.
///
/// # Errors
/// If MLX fails (out of memory, device error).
pub fn evaluate(value: &impl Arrays) -> Result<()> {
    eval(flatten(value)?.0.iter())
}

/// The arrays of a value as a list, and the value with a scalar in the place of each.
fn flatten<A: Arrays>(value: &A) -> Result<(Vec<Array>, A)> {
    let (mut list, scalar) = (Vec::new(), Array::from_f32(0.0));
    let structure = value.map_arrays(&mut |array| {
        list.push(array.clone());
        Ok(scalar.clone())
    })?;
    Ok((list, structure))
}

/// The value of that structure with the arrays of the list.
fn unflatten<A: Arrays>(structure: &A, list: &[Array]) -> Result<A> {
    let mut list = list.iter();
    let value = structure.map_arrays(&mut |_| list.next().cloned().ok_or_else(structure_mismatch))?;
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
pub fn compiled<I: Arrays + 'static, O: Arrays + 'static>(
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
            let (list, structure) = flatten(&function(unflatten(&structure, list)?)?)?;
            traced.replace(Some(structure));
            Ok(list)
        },
        false,
    );
    Box::new(move |inputs| {
        let (list, structure) = flatten(&inputs)?;
        inputs_are.replace(Some(structure));
        let outputs = call(&list)?;
        unflatten(outputs_are.borrow().as_ref().ok_or_else(structure_mismatch)?, &outputs)
    })
}
