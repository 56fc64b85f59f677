//! What saving replaces, keeps and leaves.

use super::*;

#[test]
fn what_cannot_be_saved_leaves_the_old_file_and_no_other() {
    let folder = folder();
    let path = folder.path().join("a.safetensors");
    fs::write(&path, "old").unwrap();
    let (small, complex) = (
        DynTensor::zeros(&[2], DType::F32).unwrap(),
        DynTensor::zeros(&[2], DType::C128).unwrap(),
    );
    let errors = [
        (
            save(&path, &[("z", &complex)], None).unwrap_err(),
            "\"z\" is complex128, which safetensors files cannot hold",
        ),
        (
            save(&path, &[("a", &small), ("a", &small)], None).unwrap_err(),
            "two tensors are named \"a\"",
        ),
        (
            save(&path, &[("__metadata__", &small)], None).unwrap_err(),
            "is the format's own",
        ),
    ];
    for (error, reason) in errors {
        assert!(matches!(error, Error::InvalidArgument { op: "save", .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert_eq!(fs::read(&path).unwrap(), b"old");
    // The rename fails last of all, when all bytes are written: to a name that only a folder can have.
    let slash = folder.path().join("none/");
    assert!(matches!(
        save(&slash, &[("a", &small)], None).unwrap_err(),
        Error::Io { .. }
    ));
    let nowhere = folder.path().join("none").join("a");
    assert!(matches!(
        save(&nowhere, &[("a", &small)], None).unwrap_err(),
        Error::Io { .. }
    ));
    assert_eq!(names(folder.path()), ["a.safetensors"]);
}

#[test]
fn only_a_regular_file_is_replaced() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    let pipe = std::ffi::CString::new(at("pipe").into_os_string().into_encoded_bytes()).unwrap();
    // SAFETY: the path ends in NUL, and lies in a folder of this test's own.
    assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
    let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    fs::create_dir(at("empty folder")).unwrap();
    symlink("pipe", at("link to pipe")).unwrap();
    symlink("loop", at("loop")).unwrap();
    let before = names(folder.path()).len();
    let tensor = DynTensor::zeros(&[2], DType::F32).unwrap();
    for (name, reason) in [
        ("pipe", "not a regular file"),
        ("socket", "not a regular file"),
        ("empty folder", "not a regular file"),
        ("link to pipe", "not a regular file"),
        ("loop", "symbolic link"),
    ] {
        let error = save(at(name), &[("a", &tensor)], None).unwrap_err();
        assert!(matches!(&error, Error::Io { path, .. } if *path == at(name)), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    assert!(fs::symlink_metadata(at("pipe")).unwrap().file_type().is_fifo());
    assert!(fs::symlink_metadata(at("socket")).unwrap().file_type().is_socket());
    assert!(at("empty folder").is_dir());
    assert_eq!(names(folder.path()).len(), before);
}

#[test]
fn a_link_stays_and_what_it_leads_to_is_replaced() {
    use std::os::unix::fs::symlink;
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("inner")).unwrap();
    fs::write(at("inner/file"), "old").unwrap();
    symlink("inner/file", at("relative")).unwrap();
    symlink(at("relative"), at("absolute")).unwrap();
    symlink("inner/new", at("dangling")).unwrap();
    for (value, name, target) in [
        (1, "relative", "inner/file"),
        (2, "absolute", "inner/file"),
        (3, "dangling", "inner/new"),
    ] {
        let tensor = DynTensor::from_slice(&[1], &[value]).unwrap();
        save(at(name), &[("a", &tensor)], None).unwrap();
        assert!(at(name).is_symlink());
        assert!(!at(target).is_symlink());
        let read = load(at(target), None).unwrap().tensors.remove(0).1;
        assert_eq!(read.to_vec::<i32>().unwrap(), [value]);
    }
    let mut inner = names(&at("inner"));
    inner.sort();
    assert_eq!(inner, ["file", "new"]);
}

#[test]
fn a_replaced_file_keeps_who_may_read_it() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let path = folder.path().join("a");
    fs::write(&path, "old").unwrap();
    // The umask would take from the second what it has.
    for mode in [0o600, 0o666, 0o640] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        save::<&str>(&path, &[], None).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, mode);
        assert_ne!(fs::read(&path).unwrap(), b"old");
    }
}

#[test]
fn a_saved_file_can_be_read_by_whom_the_umask_allows() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    let (saved, plain) = (folder.path().join("saved"), folder.path().join("plain"));
    save::<&str>(&saved, &[], Some(HashMap::from([("a".to_owned(), "b".to_owned())]))).unwrap();
    fs::write(&plain, "").unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&saved), mode(&plain));
}
