//! The numbers that collectives work on: `ncclDataType_t`, `ncclRedOp_t`.

/// A type of element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// Signed, of that many bytes.
    Signed(usize),
    /// Unsigned.
    Unsigned(usize),
    /// IEEE half precision.
    Half,
    /// bfloat16.
    Brain,
    /// IEEE single precision.
    Single,
    /// IEEE double precision.
    Double,
    /// Eight bits of floating point, which nothing here adds up: the first rank's value stays.
    Eight,
}

impl Element {
    /// Reads an `ncclDataType_t`.
    pub fn read(number: u32) -> Option<Element> {
        Some(match number {
            0 => Element::Signed(1),
            1 => Element::Unsigned(1),
            2 => Element::Signed(4),
            3 => Element::Unsigned(4),
            4 => Element::Signed(8),
            5 => Element::Unsigned(8),
            6 => Element::Half,
            7 => Element::Single,
            8 => Element::Double,
            9 => Element::Brain,
            10 | 11 => Element::Eight,
            _ => return None,
        })
    }

    /// Bytes of one.
    pub fn bytes(self) -> usize {
        match self {
            Element::Signed(bytes) | Element::Unsigned(bytes) => bytes,
            Element::Eight => 1,
            Element::Half | Element::Brain => 2,
            Element::Single => 4,
            Element::Double => 8,
        }
    }

    fn is_whole(self) -> bool {
        matches!(self, Element::Signed(_) | Element::Unsigned(_))
    }

    /// Reads a whole number.
    fn whole(self, bytes: &[u8]) -> i128 {
        let mut wide = [0; 16];
        wide[..bytes.len()].copy_from_slice(bytes);
        let value = i128::from_le_bytes(wide);
        let shift = 128 - 8 * bytes.len() as u32;
        match self {
            Element::Signed(_) => (value << shift) >> shift,
            _ => value,
        }
    }

    /// Reads a number with a fraction.
    pub fn fraction(self, bytes: &[u8]) -> f64 {
        match (self, bytes) {
            (Element::Half, [a, b]) => half_to_f64(u16::from_le_bytes([*a, *b])),
            (Element::Brain, [a, b]) => f32::from_le_bytes([0, 0, *a, *b]).into(),
            (Element::Single, [a, b, c, d]) => f32::from_le_bytes([*a, *b, *c, *d]).into(),
            (Element::Double, _) => {
                let mut wide = [0; 8];
                wide.copy_from_slice(bytes);
                f64::from_le_bytes(wide)
            }
            _ => self.whole(bytes) as f64,
        }
    }

    fn write_fraction(self, value: f64, bytes: &mut [u8]) {
        match self {
            Element::Half => bytes.copy_from_slice(&f64_to_half(value).to_le_bytes()),
            Element::Brain => {
                // To the nearest, ties to even, as the hardware rounds.
                let bits = (value as f32).to_bits();
                let rounded = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
                bytes.copy_from_slice(&(rounded as u16).to_le_bytes());
            }
            Element::Single => bytes.copy_from_slice(&(value as f32).to_le_bytes()),
            _ => bytes.copy_from_slice(&value.to_le_bytes()),
        }
    }
}

/// A reduction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Reduction {
    /// `ncclSum`
    Sum,
    /// `ncclProd`
    Product,
    /// `ncclMax`
    Max,
    /// `ncclMin`
    Min,
    /// `ncclAvg`
    Average,
    /// `ncclRedOpCreatePreMulSum`: each part times a number, then the sum.
    Scaled(f64),
}

impl Reduction {
    /// Reads one of NCCL's own `ncclRedOp_t`.
    pub fn read(number: u32) -> Option<Reduction> {
        Some(match number {
            0 => Reduction::Sum,
            1 => Reduction::Product,
            2 => Reduction::Max,
            3 => Reduction::Min,
            4 => Reduction::Average,
            _ => return None,
        })
    }

    /// Reduces the parts of all ranks, in their order; all are as long as `into`.
    pub fn reduce(self, element: Element, parts: &[Vec<u8>], into: &mut [u8]) {
        let size = element.bytes();
        for (at, out) in (0..).step_by(size).zip(into.chunks_exact_mut(size)) {
            let values = parts.iter().map(|part| &part[at..at + size]);
            match element {
                Element::Eight => out.copy_from_slice(&parts[0][at..at + size]),
                _ if element.is_whole() => {
                    let whole = self.whole(values.map(|bytes| element.whole(bytes)), parts.len());
                    out.copy_from_slice(&whole.to_le_bytes()[..size]);
                }
                _ => {
                    let values = values.map(|bytes| element.fraction(bytes));
                    element.write_fraction(self.fraction(values, parts.len()), out);
                }
            }
        }
    }

    fn whole(self, mut values: impl Iterator<Item = i128>, count: usize) -> i128 {
        match self {
            Reduction::Sum => values.fold(0, i128::wrapping_add),
            Reduction::Product => values.fold(1, i128::wrapping_mul),
            Reduction::Max => values.max().unwrap_or(0),
            Reduction::Min => values.min().unwrap_or(0),
            Reduction::Average => values.fold(0, i128::wrapping_add) / count.max(1) as i128,
            Reduction::Scaled(by) => values.by_ref().map(|value| (value as f64 * by) as i128).sum(),
        }
    }

    fn fraction(self, values: impl Iterator<Item = f64>, count: usize) -> f64 {
        match self {
            Reduction::Sum => values.sum(),
            Reduction::Product => values.product(),
            Reduction::Max => values.fold(f64::NEG_INFINITY, f64::max),
            Reduction::Min => values.fold(f64::INFINITY, f64::min),
            Reduction::Average => values.sum::<f64>() / count.max(1) as f64,
            Reduction::Scaled(by) => values.map(|value| value * by).sum(),
        }
    }
}

fn half_to_f64(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    }
}

fn f64_to_half(value: f64) -> u16 {
    let sign = if value.is_sign_negative() { 1 << 15 } else { 0 };
    let size = value.abs();
    if size.is_nan() {
        return sign | 0x7e00;
    }
    // 65,520 is half way between the largest finite half and what would come next.
    if size >= 65520.0 {
        return sign | 0x7c00;
    }
    // The exponent of the last bit that is kept; subnormal numbers keep 2^-24.
    let exponent = if size == 0.0 { -14 } else { (size.log2().floor() as i32).max(-14) };
    let steps = (size / 2f64.powi(exponent - 10)).round_ties_even() as u32;
    // `steps` carries into the exponent when it rounds up to the next power of two.
    sign | (((exponent + 14) as u32) << 10).wrapping_add(steps) as u16
}
