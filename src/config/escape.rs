//! What stands in URLs for characters that may not.

/// %XX to bytes (RFC 3986, 2.1), and these to text.
pub(crate) fn decode(text: &str) -> Result<String, String> {
    let mut pieces = text.split('%');
    let mut bytes = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let digit = |at: usize| {
            let byte = piece.as_bytes().get(at);
            byte.and_then(|&b| char::from(b).to_digit(16))
        };
        let (Some(high), Some(low)) = (digit(0), digit(1)) else {
            return Err("behind a % stand two hexadecimal digits; % itself is %25".to_owned());
        };
        bytes.push((high * 16 + low) as u8);
        bytes.extend_from_slice(&piece.as_bytes()[2..]);
    }
    String::from_utf8(bytes).map_err(|_| "what stands there as %XX is not UTF-8".to_owned())
}
