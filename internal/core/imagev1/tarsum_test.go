package imagev1

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

type entry struct {
	name, body string
	flag       byte
	mode       int64
	uid        int
	pax        map[string]string
	link       string
}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, x := range entries {
		h := &tar.Header{
			Name: x.name, Mode: x.mode, Uid: x.uid, Gid: 7, Size: int64(len(x.body)), Typeflag: x.flag, Linkname: x.link,
			ModTime: time.Unix(1234567890, 0), PAXRecords: x.pax,
		}
		if x.flag == tar.TypeChar {
			h.Devmajor, h.Devminor = 1, 3
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(x.body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestTarSum: the sums are those that docker's own package computes of the same archives. (Its last version leaves the owners'
// names out; those of the time counted them, as docker's archives did not have any.)
func TestTarSum(t *testing.T) {
	xattrs := map[string]string{"SCHILY.xattr.user.b": "2", "SCHILY.xattr.user.a": "1", "SCHILY.xattr.security.capability": "\x01\x02"}
	archives := map[string][]byte{
		"empty": archive(t),
		"files": archive(t, entry{"./dir/", "", tar.TypeDir, 0o755, 0, nil, ""}, entry{"./dir/a", "hello", tar.TypeReg, 0o644, 1000, nil, ""},
			entry{"./link", "", tar.TypeSymlink, 0o777, 0, nil, "dir/a"}, entry{"./dev", "", tar.TypeChar, 0o666, 0, nil, ""}),
		"xattrs":         archive(t, entry{"a", "x", tar.TypeReg, 0o4755, 0, xattrs, ""}),
		"twice":          archive(t, entry{"a", "one", tar.TypeReg, 0o644, 0, nil, ""}, entry{"a", "two", tar.TypeReg, 0o644, 0, nil, ""}),
		"twice reversed": archive(t, entry{"a", "two", tar.TypeReg, 0o644, 0, nil, ""}, entry{"a", "one", tar.TypeReg, 0o644, 0, nil, ""}),
		"long":           archive(t, entry{strings.Repeat("n", 300), "x", tar.TypeReg, 0o644, 3000000, nil, ""}),
	}
	for _, c := range []struct{ name, want string }{
		{"empty", "tarsum+sha256:5e2b92cc57ce618dfbb54844a31775e4b95c6fb552ee6bf5a068133c12d2ad90"},
		{"empty", "tarsum.v1+sha256:5e2b92cc57ce618dfbb54844a31775e4b95c6fb552ee6bf5a068133c12d2ad90"},
		{"files", "tarsum+sha256:812c0999521d3fe3fe0dd18ebe587d03add318c67259cb948f5ad4da6486997c"},
		{"files", "tarsum.v1+sha256:de8e334f205465dd1d1cc90720a989588cc9687c72ee3237a87ba0ee2b9c7627"},
		{"xattrs", "tarsum+sha256:903b7655146aa29ebe0d7911356e41021c0a99cbac3b50bba5ef9c1958e14fa6"},
		{"xattrs", "tarsum.v1+sha256:8fde32f9eda3a3068dc98c250d8021f12aee36b9a7016721016ec32b3a4e5dde"},
		{"twice", "tarsum+sha256:f7f91ae3206634e10e23af713e611fd9f1151fd7f52b1568e760a2e9c9ba6859"},
		{"twice", "tarsum.v1+sha256:2c468686e6d390aa54b868c1cf8cb231e172f960b2555c1750ea34919a69d1ff"},
		{"twice reversed", "tarsum+sha256:0ae97e03149c138f188ac560b7d3c33f24fac0a3a22d132bca690e78bad2eedf"},
		{"twice reversed", "tarsum.v1+sha256:de789d0010e378d101ee75e19698840861f4047d63b6e05037eff7a9cc7070e1"},
		{"long", "tarsum+sha256:63f12b3f1d205de8be32d5a1e5c609c43847d7b3197a32b2b40efcc3b5105229"},
		{"long", "tarsum.v1+sha256:dd2bb58d0164efa5aff5c979f35e5a149df722f7380ac5cf6661b0632ca2331d"},
		{"files", "tarsum.dev+sha256:de8e334f205465dd1d1cc90720a989588cc9687c72ee3237a87ba0ee2b9c7627"},
	} {
		want, err := ParseChecksum(c.want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := TarSum(want.Version, []byte(`{"id":"x"}`), bytes.NewReader(archives[c.name]))
		if err != nil || got != want || got.String() != c.want {
			t.Errorf("%s: %v %v, want %s", c.name, got, err, c.want)
		}
	}
	if _, err := TarSum(TarSum1, nil, bytes.NewReader(archives["files"][:700])); err == nil {
		t.Error("half an archive has a sum")
	}
	broken := errors.New("broken")
	if _, err := TarSum(TarSum1, nil, io.MultiReader(bytes.NewReader(archives["files"][:600]), failing{broken})); !errors.Is(err, broken) {
		t.Error(err)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// FuzzTarSum: no archive breaks it, and what has a sum has the same one twice.
func FuzzTarSum(f *testing.F) {
	f.Add(archive(f, entry{"a", "x", tar.TypeReg, 0o644, 0, nil, ""}), true)
	f.Add(archive(f, entry{"d/", "", tar.TypeDir, 0o755, 0, nil, ""}, entry{"l", "", tar.TypeSymlink, 0, 0, nil, "d"}), false)
	f.Add([]byte{}, false)
	f.Fuzz(func(t *testing.T, data []byte, old bool) {
		v := TarSum1
		if old {
			v = TarSum0
		}
		a, err := TarSum(v, []byte("{}"), bytes.NewReader(data))
		b, again := TarSum(v, []byte("{}"), bytes.NewReader(data))
		if (err == nil) != (again == nil) || err == nil && a != b {
			t.Fatal(a, err, b, again)
		}
		n := 0
		listed := Files(bytes.NewReader(data), func(File) error { n++; return nil })
		if err == nil && listed != nil {
			t.Fatal(listed)
		}
	})
}

func TestChecksums(t *testing.T) {
	hex := strings.Repeat("0f", 32)
	for text, want := range map[string]string{
		"sha256:" + hex: "sha256:" + hex, hex: "sha256:" + hex, "tarsum+sha256:" + hex: "tarsum+sha256:" + hex,
		"tarsum.v1+sha256:" + hex: "tarsum.v1+sha256:" + hex, "tarsum.dev+sha256:" + hex: "tarsum.dev+sha256:" + hex,
		"": "", "sha256:": "", "md5:" + hex: "", "sha256:" + hex + "00": "", "SHA256:" + hex: "", "tarsum.v2+sha256:" + hex: "",
		"tarsum+md5:" + hex: "", "tarsum:" + hex: "", strings.ToUpper(hex): "", "+sha256:" + hex: "", "sha256+sha256:" + hex: "",
	} {
		c, err := ParseChecksum(text)
		if (err == nil) != (want != "") || err == nil && c.String() != want {
			t.Errorf("%q: %v %v", text, c, err)
		}
	}
	p := NewPayload([]byte("{}"))
	for _, part := range []string{"la", "yer"} {
		if _, err := p.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	// printf '{}\nlayer' | sha256sum
	if got := p.Checksum().String(); got != "sha256:3db12f91db95a0807d65a0f98032c3573e34a9b50de10745302cdab21e85c76f" {
		t.Error(got)
	}
}

// FuzzParseChecksum: what is read is written the same way.
func FuzzParseChecksum(f *testing.F) {
	f.Add("sha256:" + strings.Repeat("0", 64))
	f.Add("tarsum.v1+sha256:" + strings.Repeat("f", 64))
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseChecksum(s)
		if err != nil {
			return
		}
		again, err := ParseChecksum(c.String())
		if err != nil || again != c {
			t.Fatal(s, c, again, err)
		}
	})
}
