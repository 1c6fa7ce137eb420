//! What a kernel's mangled name says of its parameters: which of them may be written through.
//!
//! Source: the Itanium C++ ABI's mangling, chapter 5.1. Only types that end the name are read, and
//! only of instances of templates that return nothing, as nearly all kernels are.

/// Kernels with more parameters are not read.
const MOST: usize = 32;
/// PyTorch's templates of a tensor, which start with its address; the element's type comes first.
const TENSORS: [&str; 2] = ["10TensorInfoI", "27GenericPackedTensorAccessorI"];

/// What is known of one parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameter {
    /// A number, or what is only read: a pointer or a `TensorInfo` to constants.
    Read,
    /// An address that may be written to, or a type that the name has had before: a pointer's, a
    /// number's, or a structure's that starts with its address.
    Pointer,
    /// Anything else, a structure of any size.
    Unknown,
}

/// The parameters of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameters {
    count: u8,
    /// More of them follow, nobody says how many: a template's pack.
    more: bool,
    all: [Parameter; MOST],
}

impl Parameters {
    /// Reads them from a mangled name; `None` where it has another form.
    pub fn of(name: &str) -> Option<Parameters> {
        // A template's result, `void`, precedes them.
        let mut rest = &name[name.rfind("Ev")? + "Ev".len()..];
        let mut parameters = Parameters { count: 0, more: false, all: [Parameter::Unknown; MOST] };
        if rest == "v" {
            return Some(parameters);
        }
        while !rest.is_empty() {
            if rest.starts_with("Dp") {
                parameters.more = true;
                break;
            }
            let length = type_length(rest.as_bytes())?;
            let slot = parameters.all.get_mut(usize::from(parameters.count))?;
            let (one, others) = rest.split_at_checked(length)?;
            *slot = Parameter::read(one);
            parameters.count += 1;
            rest = others;
        }
        Some(parameters)
    }

    /// How many there are, and whether that is all.
    pub fn count(&self) -> (usize, bool) {
        (usize::from(self.count), !self.more)
    }

    /// What is known of one.
    pub fn at(&self, index: usize) -> Parameter {
        self.all.get(index).copied().unwrap_or(Parameter::Unknown)
    }
}

impl Parameter {
    fn read(text: &str) -> Parameter {
        match text.as_bytes() {
            [b'P', b'K', ..] | [b'a'..=b'z'] => Parameter::Read,
            [b'S', b't', ..] => Parameter::Unknown,
            [b'P' | b'S', ..] => Parameter::Pointer,
            _ => match element(text) {
                Some(of) if of.starts_with('K') => Parameter::Read,
                Some(_) => Parameter::Pointer,
                None => Parameter::Unknown,
            },
        }
    }
}

/// The element's type of a tensor, and what follows it: of `10TensorInfoIKfjE` and `NS5_IKfjEE`, the
/// same template again.
fn element(text: &str) -> Option<&str> {
    let named = TENSORS.iter().find_map(|name| Some(text.split_once(name)?.1));
    named.or_else(|| {
        let (number, of) = text.strip_prefix("NS")?.split_once("_I")?;
        number.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase()).then_some(of)
    })
}

/// The length of the type that a text starts with; `None` for a form that is not read.
fn type_length(text: &[u8]) -> Option<usize> {
    let after = |start: usize| -> Option<usize> { Some(start + type_length(&text[start..])?) };
    let with_arguments = |end: usize| -> Option<usize> {
        match text.get(end) {
            Some(b'I') => Some(end + list_length(&text[end..])?),
            _ => Some(end),
        }
    };
    match text.first()? {
        b'P' | b'R' | b'K' | b'V' => after(1),
        b'a'..=b'z' => Some(1),
        b'S' if text.get(1) == Some(&b't') => with_arguments(2 + name_length(&text[2..])?),
        b'T' | b'S' => {
            let end = text.iter().position(|byte| *byte == b'_')?;
            let numbered =
                text[1..end].iter().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase());
            if numbered { with_arguments(end + 1) } else { None }
        }
        b'N' => list_length(text),
        b'0'..=b'9' => with_arguments(name_length(text)?),
        _ => None,
    }
}

/// The length of a name: its own length in digits, and as many characters.
fn name_length(text: &[u8]) -> Option<usize> {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let length: usize = std::str::from_utf8(&text[..digits]).ok()?.parse().ok()?;
    let end = digits.checked_add(length)?;
    (end <= text.len()).then_some(end)
}

/// The length of a nested name, of template arguments or of a pack of them, up to their `E`.
fn list_length(text: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        match text.get(at)? {
            b'E' => return Some(at + 1),
            // A pack; template arguments of the name before them.
            b'J' | b'I' => at += list_length(&text[at..])?,
            // A number of a type: `Li4E`, `Lb0E`, `Lin1E`.
            b'L' => {
                let end = text[at..].iter().position(|byte| *byte == b'E')?;
                at += end + 1;
            }
            // A template's parameter as a number: `XT2_E`.
            b'X' if text.get(at + 1) == Some(&b'T') => {
                at += 1 + type_length(&text[at + 1..])?;
                if text.get(at) != Some(&b'E') {
                    return None;
                }
                at += 1;
            }
            _ => at += type_length(&text[at..])?,
        }
    }
}
