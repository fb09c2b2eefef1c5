//! Safe reading of pickles of plain values, for nanoGPT's `meta.pkl`.
//!
//! A pickle is a program for a stack machine, and Python's reader lets it import and call anything. This reader knows only
//! the instructions that build numbers, strings, lists and dicts (protocols 2 to 5) and rejects all others. Each instruction
//! adds a value of bounded size and containers are nested at most [`MAX_DEPTH`] deep, so that memory stays proportional to
//! the file's size. General pickle readers copy a container as often as the pickle asks, so that two bytes can double their
//! memory.

use std::collections::HashMap;
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};

/// Maximum nesting depth of containers.
const MAX_DEPTH: usize = 8;

/// A value of a pickle.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Int(i64),
    Text(Rc<str>),
    List(Vec<Value>),
    /// Keys and values, in insertion order.
    Dict(Vec<(Value, Value)>),
    /// Floats, bytes, true, false, None: parsed, but not needed.
    Other,
}

impl Value {
    /// The value of a dict's key.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Self::Dict(entries) = self else { return None };
        let found = |(name, _): &&(Self, Self)| matches!(name, Self::Text(name) if **name == *key);
        entries.iter().rev().find(found).map(|(_, value)| value)
    }
}

/// Reads the value of a pickle.
///
/// # Errors
/// It is truncated, or contains anything but plain values.
pub fn read(bytes: &[u8]) -> Result<Value> {
    let mut unpickler = Unpickler {
        input: bytes,
        ..Unpickler::default()
    };
    while unpickler.step()? {}
    let value = unpickler.pop()?.value;
    Ok(value)
}

/// A value on the stack, and the nesting depth of its containers.
#[derive(Clone)]
struct Item {
    value: Value,
    depth: usize,
}

#[derive(Default)]
struct Unpickler<'a> {
    input: &'a [u8],
    stack: Vec<Item>,
    /// Stack lengths at the marks.
    marks: Vec<usize>,
    /// Memoized values; only strings can be recalled. `None` is a memoized container.
    memo: HashMap<u32, Option<Rc<str>>>,
}

impl<'a> Unpickler<'a> {
    /// Executes an instruction; returns false at STOP.
    fn step(&mut self) -> Result<bool> {
        let instruction = self.byte()?;
        match instruction {
            0x80 => drop(self.byte()?),                // PROTO
            0x95 => drop(self.take(8)?),               // FRAME
            b'.' => return Ok(false),                  // STOP
            b'(' => self.marks.push(self.stack.len()), // MARK
            b'0' => drop(self.pop()?),                 // POP
            b'K' => {
                let number = self.byte()?.into(); // BININT1
                self.push(Value::Int(number));
            }
            b'M' => {
                let number = u16::from_le_bytes(self.array()?).into(); // BININT2
                self.push(Value::Int(number));
            }
            b'J' => {
                let number = i32::from_le_bytes(self.array()?).into(); // BININT
                self.push(Value::Int(number));
            }
            0x8a => self.long()?, // LONG1
            b'G' => {
                self.take(8)?; // BINFLOAT
                self.push(Value::Other);
            }
            b'N' | 0x88 | 0x89 => self.push(Value::Other), // NONE, NEWTRUE, NEWFALSE
            0x8c => {
                let length = self.byte()?.into(); // SHORT_BINUNICODE
                self.text(length)?;
            }
            b'X' => {
                let length = u32::from_le_bytes(self.array()?); // BINUNICODE
                self.text(length as usize)?;
            }
            b'C' => {
                let length = self.byte()?.into(); // SHORT_BINBYTES
                self.take(length)?;
                self.push(Value::Other);
            }
            b'}' => self.push_container(Value::Dict(Vec::new())), // EMPTY_DICT
            b']' => self.push_container(Value::List(Vec::new())), // EMPTY_LIST
            b's' => {
                let from = self.stack.len().checked_sub(2).context("a dict's entry is missing")?; // SETITEM
                self.set_items(from)?;
            }
            b'u' => {
                let from = self.mark()?; // SETITEMS
                self.set_items(from)?;
            }
            b'a' => {
                let from = self.stack.len().checked_sub(1).context("a list's value is missing")?; // APPEND
                self.append(from)?;
            }
            b'e' => {
                let from = self.mark()?; // APPENDS
                self.append(from)?;
            }
            0x94 => self.memoize(u32::try_from(self.memo.len())?)?, // MEMOIZE
            b'q' => {
                let key = self.byte()?.into(); // BINPUT
                self.memoize(key)?;
            }
            b'r' => {
                let key = u32::from_le_bytes(self.array()?); // LONG_BINPUT
                self.memoize(key)?;
            }
            b'h' => {
                let key = self.byte()?.into(); // BINGET
                self.recall(key)?;
            }
            b'j' => {
                let key = u32::from_le_bytes(self.array()?); // LONG_BINGET
                self.recall(key)?;
            }
            other => bail!("it contains more than numbers, strings, lists and dicts (instruction 0x{other:02x})"),
        }
        Ok(true)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.input.split_at_checked(count).context("it is truncated")?;
        self.input = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        Ok(self.take(N)?.try_into()?)
    }

    fn push(&mut self, value: Value) {
        self.stack.push(Item { value, depth: 0 });
    }

    fn push_container(&mut self, value: Value) {
        self.stack.push(Item { value, depth: 1 });
    }

    fn pop(&mut self) -> Result<Item> {
        // Values below a mark are inaccessible until the mark is popped.
        let bottom = self.marks.last().copied().unwrap_or(0);
        ensure!(self.stack.len() > bottom, "it pops a value from an empty stack");
        self.stack.pop().context("it pops a value from an empty stack")
    }

    fn mark(&mut self) -> Result<usize> {
        self.marks.pop().context("it pops a mark that was not set")
    }

    /// A signed little-endian integer of up to eight bytes.
    fn long(&mut self) -> Result<()> {
        let length = self.byte()?.into();
        let bytes = self.take(length)?;
        ensure!(bytes.len() <= 8, "it contains a number of {} bytes", bytes.len());
        let negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
        let mut whole = if negative { [0xff; 8] } else { [0; 8] };
        whole[..bytes.len()].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(whole)));
        Ok(())
    }

    fn text(&mut self, length: usize) -> Result<()> {
        let text = str::from_utf8(self.take(length)?).context("it contains a string that is not UTF-8")?;
        self.push(Value::Text(text.into()));
        Ok(())
    }

    /// Moves the stack's values from `from` on into the dict below them.
    fn set_items(&mut self, from: usize) -> Result<()> {
        let items = self.split_off(from)?;
        ensure!(items.len().is_multiple_of(2), "it sets a key without a value");
        let depth = self.deepened(&items)?;
        let Some(Item {
            value: Value::Dict(entries),
            depth: own,
        }) = self.stack.last_mut()
        else {
            bail!("it sets an entry of something that is not a dict");
        };
        *own = depth.max(*own);
        let mut values = items.into_iter().map(|item| item.value);
        while let (Some(key), Some(value)) = (values.next(), values.next()) {
            entries.push((key, value));
        }
        Ok(())
    }

    /// Moves the stack's values from `from` on into the list below them.
    fn append(&mut self, from: usize) -> Result<()> {
        let items = self.split_off(from)?;
        let depth = self.deepened(&items)?;
        let Some(Item {
            value: Value::List(values),
            depth: own,
        }) = self.stack.last_mut()
        else {
            bail!("it appends to something that is not a list");
        };
        *own = depth.max(*own);
        values.extend(items.into_iter().map(|item| item.value));
        Ok(())
    }

    fn split_off(&mut self, from: usize) -> Result<Vec<Item>> {
        let bottom = self.marks.last().copied().unwrap_or(0);
        ensure!(
            (bottom..=self.stack.len()).contains(&from),
            "it pops a value from an empty stack"
        );
        Ok(self.stack.split_off(from))
    }

    /// Nesting depth of a container of those items.
    ///
    /// # Errors
    /// It exceeds [`MAX_DEPTH`].
    fn deepened(&self, items: &[Item]) -> Result<usize> {
        let depth = 1 + items.iter().map(|item| item.depth).max().unwrap_or(0);
        ensure!(depth <= MAX_DEPTH, "its values are nested more than {MAX_DEPTH} deep");
        Ok(depth)
    }

    fn memoize(&mut self, key: u32) -> Result<()> {
        let top = self.stack.last().context("it memoizes a value from an empty stack")?;
        let text = match &top.value {
            Value::Text(text) => Some(Rc::clone(text)),
            _ => None,
        };
        self.memo.insert(key, text);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<()> {
        match self.memo.get(&key) {
            Some(Some(text)) => {
                let text = Rc::clone(text);
                self.push(Value::Text(text));
                Ok(())
            }
            Some(None) => bail!("it refers to the same container twice"),
            None => bail!("it recalls a value that was not memoized"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    /// Bytes as `pickle.dumps` of Python 3 makes them.
    #[test]
    fn plain_values_are_read() {
        // {'n': 65, 'itos': {0: '\n', 300: 'é'}, 'stoi': {'\n': 0, 'é': 300}, 'l': [-1, 1.5, None]}, protocol 4
        let bytes = b"\x80\x04\x95\x42\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01n\x94KA\x8c\x04itos\x94}\x94(K\x00\x8c\x01\n\x94M,\x01\x8c\x02\xc3\xa9\x94u\x8c\x04stoi\x94}\x94(h\x04K\x00h\x05M,\x01u\x8c\x01l\x94]\x94(J\xff\xff\xff\xffG?\xf8\x00\x00\x00\x00\x00\x00Neu.";
        let value = read(bytes).unwrap();
        assert_eq!(value.get("n"), Some(&Value::Int(65)));
        let itos = vec![(Value::Int(0), text("\n")), (Value::Int(300), text("é"))];
        assert_eq!(value.get("itos"), Some(&Value::Dict(itos)));
        let stoi = vec![(text("\n"), Value::Int(0)), (text("é"), Value::Int(300))];
        assert_eq!(value.get("stoi"), Some(&Value::Dict(stoi)));
        assert_eq!(
            value.get("l"),
            Some(&Value::List(vec![Value::Int(-1), Value::Other, Value::Other]))
        );
        assert_eq!(value.get("m"), None);
        assert_eq!(read(b"\x80\x02\x8a\x02\xff\x00.").unwrap(), Value::Int(255));
        assert_eq!(read(b"\x80\x02\x8a\x01\xff.").unwrap(), Value::Int(-1));
    }

    #[test]
    fn what_could_run_or_grow_is_refused() {
        let nested = [vec![b']'; 1000], vec![b'a'; 999], vec![b'.']].concat();
        for (bytes, expected) in [
            (&b"cos\nsystem\n(X\x02\x00\x00\x00ls\x85R."[..], "instruction 0x63"), // GLOBAL
            (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "instruction 0x93"),        // STACK_GLOBAL
            (b"]2a2a2a.", "instruction 0x32"),                                     // DUP: doubles
            (b"]q\x00h\x00a.", "the same container twice"),
            (&nested, "more than 8 deep"),
            (b"(.", "pops a value from an empty stack"),
            (b"K\x01(0.", "pops a value from an empty stack"),
            (b"X\xff\xff\xff\xff.", "truncated"),
            (b"}(K\x01u.", "a key without a value"),
            (b"K\x01K\x02K\x03s.", "not a dict"),
            (b"u.", "a mark that was not set"),
            (b"h\x07.", "a value that was not memoized"),
            (b"", "truncated"),
        ] {
            let error = format!("{:#}", read(bytes).unwrap_err());
            assert!(error.contains(expected), "{bytes:?}: {error}");
        }
    }
}
