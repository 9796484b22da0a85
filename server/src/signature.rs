//! AWS Signature Version 4: whether a request was signed with one of the keys that the server knows. Pure; the moment is given.

use std::{borrow::Cow, collections::BTreeMap};

use hmac::{Hmac, KeyInit as _, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::{Digest as _, Sha256};

use crate::{
    config::Auth,
    error::{Kind, ServiceError},
    service::hex,
};

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
/// What stays as it is in canonical requests.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');
/// The same in paths.
const IN_PATHS: &AsciiSet = &UNRESERVED.remove(b'/');
/// Longest validity of a signature in a query string, in seconds: a week.
const EXPIRES_MAX: u64 = 604_800;

/// A request as far as signatures cover it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Signed<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) query: &'a str,
    pub(crate) headers: &'a hyper::HeaderMap,
    pub(crate) body: &'a [u8],
}

/// What a signature says of itself.
#[derive(Debug)]
struct Claim<'a> {
    /// Access key id, date, region, service, `aws4_request`.
    credential: Cow<'a, str>,
    /// Names in ascending order, in lower case, none twice.
    headers: Cow<'a, str>,
    signature: Cow<'a, str>,
    /// `20250131T235959Z`.
    date: Cow<'a, str>,
    /// In seconds; only signatures in query strings have it.
    expires: Option<u64>,
}

/// The region that the request's credential names, if it has any, whether it is verified or not.
pub(crate) fn region<'a>(headers: &'a hyper::HeaderMap, query: &'a str) -> Option<Cow<'a, str>> {
    let nth = |credential: &str| credential.split('/').nth(2).map(str::to_owned);
    match headers.get(hyper::header::AUTHORIZATION) {
        Some(header) => {
            let text = header.to_str().ok()?;
            // Where SDKs put it; elsewhere it is looked for.
            let rest = match text.strip_prefix("AWS4-HMAC-SHA256 Credential=") {
                Some(rest) => rest,
                None => text.split_once("Credential=")?.1,
            };
            rest.split([',', ' '])
                .next()?
                .split('/')
                .nth(2)
                .map(Cow::Borrowed)
        }
        None => nth(&parameters(query).remove("X-Amz-Credential")?).map(Cow::Owned),
    }
}

/// Whether the request may be served. What its head says is looked at before the rest; see [`verify_head`].
pub(crate) fn verify(auth: &Auth, request: &Signed<'_>, now: u64) -> Result<(), ServiceError> {
    let claim = claim(request)?;
    let Scoped {
        secret,
        scope,
        parts: [day, region, service, end],
    } = scoped(auth, &claim, now)?;
    let canonical = canonical(request, &claim)?;
    let to_sign = [
        ALGORITHM,
        &claim.date,
        scope,
        &hex(&Sha256::digest(canonical.as_bytes())),
    ]
    .join("\n");
    let mut signing = format!("AWS4{secret}").into_bytes();
    for part in [day, region, service, end] {
        signing = mac(&signing, part.as_bytes()).finalize().into_bytes().to_vec();
    }
    let signature = unhex(&claim.signature).unwrap_or_default();
    // In constant time.
    mac(&signing, to_sign.as_bytes())
        .verify_slice(&signature)
        .map_err(|_| {
            mismatch("The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details.")
        })
}

/// Whether the request claims to be signed by a known key, about now; its body, which is not here yet, is not looked at.
pub(crate) fn verify_head(auth: &Auth, request: &Signed<'_>, now: u64) -> Result<(), ServiceError> {
    let claim = claim(request)?;
    scoped(auth, &claim, now).map(drop)
}

/// What a claim is about.
struct Scoped<'a> {
    secret: &'a str,
    scope: &'a str,
    parts: [&'a str; 4],
}

fn scoped<'a>(auth: &'a Auth, claim: &'a Claim<'_>, now: u64) -> Result<Scoped<'a>, ServiceError> {
    let mut scope = claim.credential.splitn(2, '/');
    let (key, scope) = (scope.next().unwrap_or_default(), scope.next().unwrap_or_default());
    let parts: Vec<&str> = scope.split('/').collect();
    let &[day, region, service, end] = parts.as_slice() else {
        return Err(incomplete("Credential must have five parts."));
    };
    if service != "sqs" || end != "aws4_request" {
        return Err(mismatch("Credential should be scoped to correct service: 'sqs'."));
    }
    let secret = auth.keys.get(key).ok_or_else(|| {
        ServiceError::new(
            Kind::InvalidClientTokenId,
            "The security token included in the request is invalid.",
        )
    })?;
    let moment =
        unix_seconds(&claim.date).ok_or_else(|| incomplete("Date must be in ISO-8601 'basic format'."))?;
    if claim.date.get(..8) != Some(day) {
        return Err(mismatch(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP.",
        ));
    }
    match claim.expires {
        None if moment.saturating_add(auth.skew_s) < now => {
            return Err(mismatch(
                "Signature expired: the request was signed too long ago.",
            ));
        }
        Some(expires) if moment.saturating_add(expires) < now => {
            return Err(ServiceError::new(Kind::RequestExpired, "Request has expired."));
        }
        _ if moment > now.saturating_add(auth.skew_s) => {
            return Err(mismatch(
                "Signature not yet current: the request was signed in the future.",
            ));
        }
        _ => {}
    }
    Ok(Scoped {
        secret,
        scope,
        parts: [day, region, service, end],
    })
}

fn claim<'a>(request: &Signed<'a>) -> Result<Claim<'a>, ServiceError> {
    let header = |name: &str| {
        let value = request.headers.get(name)?;
        value.to_str().ok()
    };
    if let Some(authorization) = request.headers.get(hyper::header::AUTHORIZATION) {
        let text = authorization.to_str().unwrap_or_default();
        let fields = text
            .strip_prefix(ALGORITHM)
            .ok_or_else(|| incomplete("Authorization header must be of AWS4-HMAC-SHA256."))?;
        let field = |name: &str| {
            let fields = fields.split(',').map(str::trim);
            let value = fields
                .filter_map(|field| field.strip_prefix(name)?.strip_prefix('='))
                .next();
            value
                .map(Cow::Borrowed)
                .ok_or_else(|| incomplete(&format!("Authorization header requires '{name}' parameter.")))
        };
        return Ok(Claim {
            credential: field("Credential")?,
            headers: signed_headers(field("SignedHeaders")?)?,
            signature: field("Signature")?,
            date: header("x-amz-date").map(Cow::Borrowed).ok_or_else(|| {
                incomplete("Authorization header requires existence of an 'X-Amz-Date' header.")
            })?,
            expires: None,
        });
    }
    let mut query = parameters(request.query);
    if query
        .get("X-Amz-Algorithm")
        .is_none_or(|algorithm| algorithm != ALGORITHM)
    {
        return Err(ServiceError::new(
            Kind::MissingAuthenticationToken,
            "Request is missing Authentication Token",
        ));
    }
    let mut field = |name: &str| {
        query
            .remove(name)
            .ok_or_else(|| incomplete(&format!("AWS query-string parameters must include '{name}'.")))
    };
    let expires = field("X-Amz-Expires")?
        .parse()
        .ok()
        .filter(|expires| *expires <= EXPIRES_MAX)
        .ok_or_else(|| incomplete("X-Amz-Expires must be a number of seconds up to 604800."))?;
    Ok(Claim {
        credential: field("X-Amz-Credential")?,
        headers: signed_headers(field("X-Amz-SignedHeaders")?)?,
        signature: field("X-Amz-Signature")?,
        date: field("X-Amz-Date")?,
        expires: Some(expires),
    })
}

/// Names of headers in the one form that there is of them. One named over and over would be put into the canonical request as often.
fn signed_headers(names: Cow<'_, str>) -> Result<Cow<'_, str>, ServiceError> {
    let is_lower = !names.bytes().any(|byte| byte.is_ascii_uppercase());
    if is_lower && names.split(';').is_sorted_by(|one, next| one < next) {
        Ok(names)
    } else {
        Err(incomplete(
            "SignedHeaders must be names in lower case and ascending order, each of them once.",
        ))
    }
}

/// The request in the form that is signed.
fn canonical(request: &Signed<'_>, claim: &Claim<'_>) -> Result<String, ServiceError> {
    let encode = |text: &str| utf8_percent_encode(text, UNRESERVED).to_string();
    let mut query: Vec<(String, String)> = pairs(request.query)
        .filter(|(name, _)| claim.expires.is_none() || name != "X-Amz-Signature")
        .map(|(name, value)| (encode(&name), encode(&value)))
        .collect();
    query.sort_unstable();
    let query: Vec<String> = query
        .into_iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();

    let signed: Vec<&str> = claim.headers.split(';').collect();
    // What decides about the request has to be under the signature.
    let decides = |name: &str| name == "host" || name.starts_with("x-amz-");
    let forgotten = request
        .headers
        .keys()
        .any(|name| decides(name.as_str()) && signed.binary_search(&name.as_str()).is_err());
    if forgotten || signed.binary_search(&"host").is_err() {
        return Err(mismatch(
            "'Host' and all 'X-Amz-*' headers must be signed headers.",
        ));
    }
    let mut headers = String::new();
    for name in &signed {
        let values: Vec<String> = request
            .headers
            .get_all(*name)
            .iter()
            .map(|value| {
                let text = String::from_utf8_lossy(value.as_bytes());
                text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
            })
            .collect();
        headers += &format!("{name}:{}\n", values.join(","));
    }
    Ok([
        request.method,
        &utf8_percent_encode(request.path, IN_PATHS).to_string(),
        &query.join("&"),
        &headers,
        &claim.headers,
        &hex(&Sha256::digest(request.body)),
    ]
    .join("\n"))
}

fn pairs<'a>(query: &'a str) -> impl Iterator<Item = (Cow<'a, str>, Cow<'a, str>)> {
    // As whoever executes it reads it: what is signed is what is done, a plus sign that stands for a space included.
    let decode = |text: &'a str| {
        if text.contains('+') {
            let text = text.replace('+', " ");
            Cow::Owned(percent_decode_str(&text).decode_utf8_lossy().into_owned())
        } else {
            percent_decode_str(text).decode_utf8_lossy()
        }
    };
    let parts = query.split('&').filter(|part| !part.is_empty());
    parts.map(move |part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(name), decode(value))
    })
}

fn parameters(query: &str) -> BTreeMap<Cow<'_, str>, Cow<'_, str>> {
    pairs(query).collect()
}

fn mac(key: &[u8], bytes: &[u8]) -> Hmac<Sha256> {
    // Keys of any length are taken, longer ones by their digest; this one as well.
    let mut mac = Hmac::<Sha256>::new_from_slice(key)
        .unwrap_or_else(|_| Hmac::<Sha256>::new(&hmac::digest::Key::<Hmac<Sha256>>::default()));
    mac.update(bytes);
    mac
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()))
        .collect::<Option<_>>()?;
    let (bytes, rest) = digits.as_chunks::<2>();
    rest.is_empty()
        .then(|| bytes.iter().map(|[high, low]| high << 4 | low).collect())
}

/// `20250131T235959Z` in seconds since the Unix epoch.
fn unix_seconds(text: &str) -> Option<u64> {
    if text.len() != 16 || !text.is_ascii() || &text[8..9] != "T" || &text[15..] != "Z" {
        return None;
    }
    let number = |from: usize, to: usize| text.get(from..to)?.parse::<u8>().ok();
    let year = text[..4].parse().ok()?;
    let month = time::Month::try_from(number(4, 6)?).ok()?;
    let date = time::Date::from_calendar_date(year, month, number(6, 8)?).ok()?;
    let moment = date
        .with_hms(number(9, 11)?, number(11, 13)?, number(13, 15)?)
        .ok()?;
    u64::try_from(moment.assume_utc().unix_timestamp()).ok()
}

fn incomplete(message: &str) -> ServiceError {
    ServiceError::new(Kind::IncompleteSignature, message.to_owned())
}

fn mismatch(message: &str) -> ServiceError {
    ServiceError::new(Kind::SignatureDoesNotMatch, message.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_440_938_160; // 20150830T123600Z

    fn auth() -> Auth {
        serde_json::from_str(r#"{"keys":{"AKIDEXAMPLE":"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"}}"#)
            .unwrap()
    }

    fn headers(signed: &str, signature: &str) -> hyper::HeaderMap {
        let mut headers = hyper::HeaderMap::new();
        let authorization = format!(
            "{ALGORITHM} Credential=AKIDEXAMPLE/20150830/us-east-1/sqs/aws4_request, SignedHeaders={signed}, Signature={signature}"
        );
        headers.insert("host", "example.amazonaws.com".parse().unwrap());
        headers.insert("x-amz-date", "20150830T123600Z".parse().unwrap());
        headers.insert("authorization", authorization.parse().unwrap());
        headers
    }

    /// Signed by botocore 1.43.
    const SIGNATURE: &str = "ad78edf351f555310f4d083dd8c064bd4ebe181f2f74f9f68bf12fc3364b86c4";

    fn request(headers: &hyper::HeaderMap) -> Signed<'_> {
        Signed {
            method: "POST",
            path: "/",
            query: "b=2&a=%20x",
            headers,
            body: b"{}",
        }
    }

    #[test]
    fn what_botocore_signs_is_accepted_and_nothing_else_is() {
        let headers = headers("host;x-amz-date", SIGNATURE);
        let good = request(&headers);
        assert_eq!(verify(&auth(), &good, NOW), Ok(()));
        assert_eq!(region(&headers, ""), Some(Cow::Borrowed("us-east-1")));
        for bad in [
            Signed { body: b"{ }", ..good },
            Signed {
                method: "GET",
                ..good
            },
            Signed { path: "/x", ..good },
            Signed { query: "b=2", ..good },
        ] {
            assert_eq!(
                verify(&auth(), &bad, NOW).unwrap_err().kind,
                Kind::SignatureDoesNotMatch
            );
        }
        for (now, kind) in [
            (NOW + 901, Kind::SignatureDoesNotMatch),
            (NOW - 901, Kind::SignatureDoesNotMatch),
        ] {
            assert_eq!(verify(&auth(), &good, now).unwrap_err().kind, kind);
        }
        for now in [NOW + 900, NOW - 900] {
            assert_eq!(verify(&auth(), &good, now), Ok(()));
        }
    }

    /// Somebody on the way could otherwise have a plus sign executed as a space.
    #[test]
    fn a_plus_sign_is_signed_as_what_it_is_read_as() {
        let headers = headers("host;x-amz-date", SIGNATURE);
        let good = request(&headers);
        let read = Signed {
            query: "b=2&a=+x",
            ..good
        };
        assert_eq!(verify(&auth(), &read, NOW), Ok(()));
        for (one, other, is_same) in [("+", "%20", true), ("+", "%2B", false), ("%2b", "%2B", true)] {
            let canonical = |query| {
                let request = Signed { query, ..good };
                canonical(&request, &claim(&request).unwrap()).unwrap()
            };
            assert_eq!(
                canonical(&format!("a=x{one}")) == canonical(&format!("a=x{other}")),
                is_same,
                "{one} {other}"
            );
        }
    }

    #[test]
    fn what_decides_has_to_be_signed() {
        let mut headers = headers("host;x-amz-date", SIGNATURE);
        headers.insert("x-amz-target", "AmazonSQS.DeleteQueue".parse().unwrap());
        let error = verify(&auth(), &request(&headers), NOW).unwrap_err();
        assert_eq!(error.kind, Kind::SignatureDoesNotMatch);
    }

    #[test]
    fn signed_headers_are_named_once_and_in_order() {
        let many = format!("host;x-amz-date{}", ";a".repeat(15_000));
        for signed in [
            many.as_str(),
            "host;host;x-amz-date",
            "x-amz-date;host",
            "Host;x-amz-date",
        ] {
            let mut headers = headers(signed, SIGNATURE);
            headers.insert("a", "x".repeat(30_000).parse().unwrap());
            // Before the body is read, and before anything is put together.
            let error = verify_head(&auth(), &request(&headers), NOW).unwrap_err();
            assert_eq!(error.kind, Kind::IncompleteSignature);
            let query = format!(
                "X-Amz-Algorithm={ALGORITHM}&X-Amz-Credential=AKIDEXAMPLE/20150830/us-east-1/sqs/aws4_request\
                 &X-Amz-Date=20150830T123600Z&X-Amz-Expires=60&X-Amz-Signature={SIGNATURE}&X-Amz-SignedHeaders={signed}"
            );
            headers.remove("authorization");
            let by_query = Signed {
                query: &query,
                ..request(&headers)
            };
            let error = verify_head(&auth(), &by_query, NOW).unwrap_err();
            assert_eq!(error.kind, Kind::IncompleteSignature);
        }
    }

    #[test]
    fn parts_that_are_missing_or_unknown() {
        let kind = |headers: &hyper::HeaderMap| verify(&auth(), &request(headers), NOW).unwrap_err().kind;
        assert_eq!(kind(&hyper::HeaderMap::new()), Kind::MissingAuthenticationToken);
        let good = headers("host;x-amz-date", SIGNATURE);
        for (authorization, expected) in [
            ("Basic x", Kind::IncompleteSignature),
            ("AWS4-HMAC-SHA256 Credential=x", Kind::IncompleteSignature),
            (
                "AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host, Signature=0",
                Kind::IncompleteSignature,
            ),
            (
                "AWS4-HMAC-SHA256 Credential=NOBODY/20150830/r/sqs/aws4_request, SignedHeaders=host, Signature=0",
                Kind::InvalidClientTokenId,
            ),
            (
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/r/s3/aws4_request, SignedHeaders=host, Signature=0",
                Kind::SignatureDoesNotMatch,
            ),
            (
                "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/r/sqs/aws4_request, SignedHeaders=host;x-amz-date, Signature=zz",
                Kind::SignatureDoesNotMatch,
            ),
        ] {
            let mut headers = good.clone();
            headers.insert("authorization", authorization.parse().unwrap());
            assert_eq!(kind(&headers), expected, "{authorization}");
        }
    }

    #[test]
    fn moments() {
        assert_eq!(unix_seconds("20150830T123600Z"), Some(NOW));
        assert_eq!(unix_seconds("19700101T000000Z"), Some(0));
        for text in [
            "",
            "20150830123600Z",
            "20151330T123600Z",
            "20150830T123600é",
            "19690101T000000Z",
        ] {
            assert_eq!(unix_seconds(text), None, "{text}");
        }
    }
}
