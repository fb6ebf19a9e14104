// Numbers: as text, and from base64. An undefined number is a dash.

const isUndefined = (value) => value === null || value === undefined || Number.isNaN(value);

/** A number with about three significant digits. */
function show(value) {
  if (isUndefined(value)) return "–";
  const size = Math.abs(value);
  if (size !== 0 && size < 0.001) return value.toExponential(1);
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 2 ? 2 : 3);
}

/** A number in a fixed-point format such as ".3f"; in other formats as `show` writes it. */
function inFormat(value, form) {
  const digits = /^\.(\d+)f$/.exec(form);
  return isUndefined(value) || !digits ? show(value) : value.toFixed(Number(digits[1]));
}

/** A count with three digits and a suffix, as the tables write it: 1.36B. */
function showCount(value) {
  const suffixes = ["", "K", "M", "B", "T"];
  let power = 0;
  while (Number(value.toPrecision(3)) >= 1000 && power < suffixes.length - 1) { value /= 1000; power += 1; }
  return `${Number(value.toPrecision(3))}${suffixes[power]}`;
}

const signed = (value) => (value < 0 ? "−" : "+") + show(Math.abs(value));
const showPercent = (share) => `${(100 * share).toFixed(share > 0 && share < 0.095 ? 1 : 0)} %`;
const showP = (p) => (isUndefined(p) ? "–" : p < 0.0015 ? "0.001" : p.toFixed(p < 0.1 ? 3 : 2));
const showEnds = (ends, write = show) => `[${write(ends[0])}, ${write(ends[1])}]`;

function bytesOf(base64) {
  const letters = atob(base64);
  const bytes = new Uint8Array(letters.length);
  for (let at = 0; at < letters.length; at += 1) bytes[at] = letters.charCodeAt(at); // several times faster than Uint8Array.from
  return bytes;
}

/** Packed float32 numbers, decoded at the first access: row(i, j, …) is the innermost vector. */
function unpack(packed) {
  const width = packed.shape.at(-1);
  let numbers = null;
  return {
    shape: packed.shape,
    row: (...place) => {
      numbers ??= new Float32Array(bytesOf(packed.bytes).buffer);
      const start = place.reduce((sum, index, axis) => sum * packed.shape[axis] + index, 0);
      return numbers.subarray(start * width, (start + 1) * width);
    },
  };
}

/** A packed matrix of 16-bit shares of its largest value: row(i) is one row. */
function unpackShares(packed) {
  const shares = new Uint16Array(bytesOf(packed.bytes).buffer);
  const width = packed.shape.at(-1);
  const unit = packed.largest / 65535;
  return { side: width, row: (i) => Array.from(shares.subarray(i * width, (i + 1) * width), (share) => share * unit) };
}
