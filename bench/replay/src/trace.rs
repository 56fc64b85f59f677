//! A trace: the buffers of a file as one sequence of allocations and frees.
//!
//! At the same tick, frees come before allocations: an interval is half-open, so a buffer that ends where another begins
//! can give it its place. Among themselves both keep the order of the file.

/// The first line of a file, and what its columns are called in messages.
const HEADER: [&str; 4] = ["id", "lower", "upper", "size"];

/// One allocation or free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Op {
    /// Which buffer: its row in the file, from 0.
    pub(crate) buffer: u32,
    /// Bytes to allocate; 0 is a free, since no buffer is empty.
    pub(crate) bytes: u64,
}

/// A file's buffers in the order of time.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) ops: Vec<Op>,
    pub(crate) buffers: usize,
    /// Most bytes live at once, as asked for.
    pub(crate) peak_bytes: u64,
    /// How many operations lead up to the peak.
    pub(crate) ops_to_peak: usize,
}

/// A row of the file.
struct Buffer {
    lower: u64,
    upper: u64,
    size: u64,
}

impl Trace {
    /// Reads a whole file.
    ///
    /// # Errors
    /// What is wrong, with the line and what was expected there.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut lines = text.lines().enumerate().map(|(index, line)| (index + 1, line.trim()));
        let expected = HEADER.join(",");
        match lines.next() {
            Some((_, line)) if line.split(',').map(str::trim).eq(HEADER) => {}
            Some((_, line)) => return Err(format!("line 1: expected the header `{expected}`, found `{line}`")),
            None => return Err(format!("line 1: expected the header `{expected}`, the file is empty")),
        }
        let buffers = lines
            .filter(|(_, line)| !line.is_empty())
            .map(|(number, line)| Buffer::parse(line).map_err(|error| format!("line {number}: {error}")))
            .collect::<Result<Vec<_>, _>>()?;
        if buffers.is_empty() {
            return Err(String::from(
                "line 2: expected a row `id,lower,upper,size`, the file ends after its header",
            ));
        }
        if u32::try_from(buffers.len()).is_err() {
            return Err(format!("{} buffers: at most {} are supported", buffers.len(), u32::MAX));
        }
        Self::of(&buffers)
    }

    fn of(buffers: &[Buffer]) -> Result<Self, String> {
        let mut events: Vec<(u64, bool, u32)> = Vec::with_capacity(2 * buffers.len());
        for (index, buffer) in (0..).zip(buffers) {
            events.push((buffer.lower, true, index));
            events.push((buffer.upper, false, index)); // false sorts first: frees come before allocations
        }
        events.sort_unstable();
        let mut trace = Self {
            ops: Vec::with_capacity(events.len()),
            buffers: buffers.len(),
            peak_bytes: 0,
            ops_to_peak: 0,
        };
        let mut live: u64 = 0;
        for (_, is_allocation, buffer) in events {
            let size = buffers[buffer as usize].size;
            trace.ops.push(Op {
                buffer,
                bytes: if is_allocation { size } else { 0 },
            });
            live = match is_allocation {
                true => live.checked_add(size).ok_or("more than 2^64 bytes are live at once")?,
                false => live - size,
            };
            if live > trace.peak_bytes {
                trace.peak_bytes = live;
                trace.ops_to_peak = trace.ops.len();
            }
        }
        Ok(trace)
    }
}

impl Buffer {
    fn parse(line: &str) -> Result<Self, String> {
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        if fields.len() != HEADER.len() {
            let expected = HEADER.join(",");
            return Err(format!(
                "expected 4 fields `{expected}`, found {} in `{line}`",
                fields.len()
            ));
        }
        let number = |column: usize| {
            fields[column].parse::<u64>().map_err(|_| {
                format!(
                    "{}: expected a whole number from 0 on, found `{}`",
                    HEADER[column], fields[column]
                )
            })
        };
        // The id only has to be there: buffers are told apart by their rows.
        let (lower, upper, size) = (number(1)?, number(2)?, number(3)?);
        if lower >= upper {
            return Err(format!("upper: expected a tick after lower = {lower}, found {upper}"));
        }
        if size == 0 {
            return Err(String::from("size: expected 1 byte or more, found 0"));
        }
        Ok(Self { lower, upper, size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Trace::parse(text).unwrap_err()
    }

    #[test]
    fn frees_come_before_allocations_of_the_same_tick_in_the_order_of_the_file() {
        let trace = Trace::parse("id,lower,upper,size\n7,0,2,100\n8,2,4,60\n9,2,3,50\n\n").unwrap();
        let ops: Vec<_> = trace.ops.iter().map(|op| (op.buffer, op.bytes)).collect();
        assert_eq!(ops, [(0, 100), (0, 0), (1, 60), (2, 50), (2, 0), (1, 0)]);
        assert_eq!((trace.buffers, trace.peak_bytes, trace.ops_to_peak), (3, 110, 4));
    }

    #[test]
    fn bad_input_is_told_by_line_and_by_what_was_expected() {
        let header = "id,lower,upper,size\n";
        assert_eq!(
            error(""),
            "line 1: expected the header `id,lower,upper,size`, the file is empty"
        );
        assert_eq!(
            error("a,b\n"),
            "line 1: expected the header `id,lower,upper,size`, found `a,b`"
        );
        assert!(error(header).starts_with("line 2: expected a row"));
        let rows = |rows: &str| error(&format!("{header}{rows}"));
        assert_eq!(
            rows("0,1,2,3\n1,2,3\n"),
            "line 3: expected 4 fields `id,lower,upper,size`, found 3 in `1,2,3`"
        );
        assert_eq!(
            rows("0,1,2,3\n\n1,2,-3,4\n"),
            "line 4: upper: expected a whole number from 0 on, found `-3`"
        );
        assert_eq!(
            rows("0,5,5,3\n"),
            "line 2: upper: expected a tick after lower = 5, found 5"
        );
        assert_eq!(rows("0,5,6,0\n"), "line 2: size: expected 1 byte or more, found 0");
        let half = u64::MAX / 2 + 1;
        assert!(rows(&format!("0,0,2,{half}\n1,1,2,{half}\n")).starts_with("more than 2^64 bytes"));
    }
}
