//! The line through the peaks of runs: bytes over samples.

/// A line, and how far the points lie off it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// How many points it was fitted to.
    pub points: usize,
    /// Bytes that one more sample takes.
    pub slope: f64,
    /// The largest distance of a point from it, in bytes.
    pub residual: f64,
    /// The smallest size that it was fitted to.
    pub first: f64,
    /// The largest one.
    pub last: f64,
}

/// Fits a line to `(samples, bytes)`, in any order; `None` for fewer than two sizes.
///
/// Least squares, each point weighted by its size: what is nearer to the answer knows it better.
pub fn fit(points: &[(f64, f64)]) -> Option<Line> {
    let weight: f64 = points.iter().map(|(x, _)| x).sum();
    let mean = |of: &dyn Fn(&(f64, f64)) -> f64| {
        points.iter().map(|point| point.0 * of(point)).sum::<f64>() / weight
    };
    let (x, y) = (mean(&|point| point.0), mean(&|point| point.1));
    let spread = mean(&|point| (point.0 - x).powi(2));
    if points.len() < 2 || spread <= 0.0 {
        return None;
    }
    let slope = mean(&|point| (point.0 - x) * (point.1 - y)) / spread;
    let off = |point: &(f64, f64)| (point.1 - y - slope * (point.0 - x)).abs();
    let sizes = || points.iter().map(|point| point.0);
    Some(Line {
        points: points.len(),
        slope,
        residual: points.iter().map(off).fold(0.0, f64::max),
        first: sizes().fold(f64::INFINITY, f64::min),
        last: sizes().fold(0.0, f64::max),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_on_a_line_give_it_back_whatever_their_order() {
        let line = fit(&[(40.0, 4_500.0), (1.0, 600.0), (9.0, 1_400.0)]).unwrap();
        assert!((line.slope - 100.0).abs() < 1e-9 && line.residual < 1e-9, "{line:?}");
        assert_eq!((line.first, line.last), (1.0, 40.0));
        assert_eq!(fit(&[(3.0, 5.0), (3.0, 7.0)]), None, "one size alone");
        assert_eq!(fit(&[]), None);
    }

    #[test]
    fn a_point_off_the_line_is_the_residual() {
        let line = fit(&[(10.0, 1_000.0), (20.0, 2_030.0), (30.0, 3_000.0)]).unwrap();
        assert!((10.0..30.0).contains(&line.residual), "{line:?}");
    }
}
