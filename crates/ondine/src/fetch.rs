//! Files from the network: the only place of the program that reaches it.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::Path,
    sync::Arc,
    time::Duration,
};

use ondine_graph::{Context, Error, ErrorKind, Result, fail};
use ureq::{
    Agent,
    http::{StatusCode, header},
    tls::{Certificate, RootCerts, TlsConfig, TlsProvider},
};

/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes that are taken at a time.
const PIECE: usize = 64 << 10;
/// The most bytes of a page that lists files.
const LONGEST_PAGE: u64 = 64 << 20;

/// Asks servers for files.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
}

impl Client {
    /// A client that trusts whom this machine trusts, or the certificates in the file `roots`.
    ///
    /// # Errors
    /// If there are none.
    pub(crate) fn new(roots: Option<&Path>) -> Result<Self> {
        let certificates = match roots {
            Some(path) => rustls_native_certs::load_certs_from_paths(Some(path), None),
            None => rustls_native_certs::load_native_certs(),
        };
        let roots: Vec<_> =
            certificates.certs.iter().map(|certificate| Certificate::from_der(certificate).to_owned()).collect();
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .root_certs(RootCerts::new_with_certs(&roots))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            .user_agent(concat!("ondine/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .http_status_as_error(false)
            .build();
        Ok(Self { agent: config.into() })
    }

    /// A page as text, with its type.
    ///
    /// # Errors
    /// If there is no such page, or it is no text.
    pub(crate) fn page(&self, address: &str, accept: &str) -> Result<(String, String)> {
        let answer = self.agent.get(address).header(header::ACCEPT, accept).call();
        let mut answer = answer.map_err(|error| unreached(&error)).at(|| address)?;
        if answer.status() != StatusCode::OK {
            fail!(Io, "{address}: the server answers {}", answer.status());
        }
        let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.to_owned();
        let text = answer.body_mut().with_config().limit(LONGEST_PAGE).read_to_string();
        Ok((text.map_err(|error| unreached(&error)).at(|| address)?, kind))
    }

    /// Adds to `file` what it lacks of the file at `address`, from where it was broken off. `done` hears how many bytes
    /// are there, of how many, and may stop it with an error: what is there stays.
    ///
    /// # Errors
    /// If the server cannot be reached, has no such file, or breaks off.
    pub(crate) fn file(
        &self,
        address: &str,
        file: &Path,
        done: &mut dyn FnMut(u64, Option<u64>) -> Result<()>,
    ) -> Result<()> {
        let have = file.metadata().map_or(0, |meta| meta.len());
        let mut request = self.agent.get(address);
        if have > 0 {
            request = request.header(header::RANGE, format!("bytes={have}-"));
        }
        let mut answer = request.call().map_err(|error| unreached(&error)).at(|| address)?;
        let mut count = match answer.status() {
            StatusCode::PARTIAL_CONTENT if begins_at(&answer, have) => have,
            StatusCode::OK => 0,
            // There is nothing behind what is here: it is whole, or another file.
            StatusCode::RANGE_NOT_SATISFIABLE => return Ok(()),
            status => fail!(Io, "{address}: the server answers {status}"),
        };
        let total = answer.body().content_length().map(|rest| count + rest);
        let place = || file.display().to_string();
        let mut out = open(file, count > 0).at(place)?;
        let mut body = answer.body_mut().with_config().limit(u64::MAX).reader();
        let mut piece = vec![0; PIECE];
        loop {
            done(count, total)?;
            let len = body.read(&mut piece).map_err(Error::from).at(|| address)?;
            if len == 0 {
                break;
            }
            out.write_all(piece.get(..len).unwrap_or_default()).at(place)?;
            count += len as u64;
        }
        out.sync_all().at(place)?;
        match total {
            Some(total) if count < total => fail!(Io, "{address}: broken off after {count} of {total} bytes"),
            _ => Ok(()),
        }
    }
}

fn open(file: &Path, append: bool) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(append).write(true).truncate(!append).open(file)
}

/// True if an answer goes on where the bytes that are there end.
fn begins_at<T>(answer: &ureq::http::Response<T>, at: u64) -> bool {
    let range = answer.headers().get(header::CONTENT_RANGE).and_then(|range| range.to_str().ok());
    range.is_some_and(|range| range.starts_with(&format!("bytes {at}-")))
}

fn unreached(error: &ureq::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot be fetched: {error}"))
}
