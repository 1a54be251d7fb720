package tarfs

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("owners, devices and mounts need root")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openRoot(t *testing.T, dir string) *Root {
	t.Helper()
	r, err := Open(dir)
	must(t, err)
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// eachWay runs a test with openat2 and with the resolver for kernels without it.
func eachWay(t *testing.T, test func(t *testing.T, open func(dir string) *Root)) {
	for name, slow := range map[string]bool{"openat2": false, "steps": true} {
		t.Run(name, func(t *testing.T) {
			test(t, func(dir string) *Root {
				r := openRoot(t, dir)
				if !slow && !r.resolve {
					t.Skip("the kernel has no openat2")
				}
				r.resolve = r.resolve && !slow
				return r
			})
		})
	}
}

// tree makes files from "path", "path/", "path=content", "path->target".
func tree(t *testing.T, dir string, items ...string) {
	t.Helper()
	for _, it := range items {
		name, target, link := strings.Cut(it, "->")
		name, content, _ := strings.Cut(name, "=")
		p := filepath.Join(dir, name)
		must(t, os.MkdirAll(filepath.Dir(p), 0o755))
		switch {
		case link:
			must(t, os.Symlink(target, p))
		case strings.HasSuffix(name, "/"):
			must(t, os.MkdirAll(p, 0o755))
		default:
			must(t, os.WriteFile(p, []byte(content), 0o644))
		}
	}
}

// list shows a tree in the notation of tree.
func list(t *testing.T, dir string) string {
	t.Helper()
	var out []string
	must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		switch {
		case d.IsDir():
			rel += "/"
		case d.Type()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(p)
			rel += "->" + target
		case d.Type().IsRegular():
			data, _ := os.ReadFile(p)
			rel += "=" + string(data)
		}
		out = append(out, rel)
		return nil
	}))
	sort.Strings(out)
	return strings.Join(out, " ")
}

func TestStat(t *testing.T) {
	eachWay(t, func(t *testing.T, open func(string) *Root) {
		top := t.TempDir()
		dir := filepath.Join(top, "root")
		tree(t, top, "secret=x", "root/etc/passwd=root", "root/etc/link->/etc/passwd", "root/up->../../../secret", "root/abs->/etc",
			"root/chain->abs/link", "root/loop->loop", "root/broken->/no/such/../file", "root/a/b->../etc")
		r := open(dir)
		for name, want := range map[string]string{
			"/":             "/ true ",
			"/etc":          "etc true ",
			"/etc/":         "etc true ",
			"/etc/.":        ". true ",
			"/etc/passwd":   "passwd false ",
			"/abs":          "abs false /etc",
			"/abs/":         "abs true ",
			"/abs/.":        ". true ",
			"/abs/passwd":   "passwd false ",
			"/chain":        "chain false /etc/passwd",
			"/up":           "up false /secret",
			"/broken":       "broken false /no/file",
			"/../../etc":    "etc true ",
			"/a/b/passwd":   "passwd false ",
			"/a/b/../a":     "a true ",
			"/no":           "file does not exist",
			"/up/":          "file does not exist",
			"/secret":       "file does not exist",
			"/etc/passwd/":  "not a directory",
			"/etc/passwd/x": "not a directory",
			"/loop/x":       "too many levels of symbolic links",
		} {
			i, err := r.Stat(name)
			got := fmt.Sprintf("%s %v %s", i.Name, i.Mode.IsDir(), i.Target)
			if err != nil {
				var pe *fs.PathError
				if !errors.As(err, &pe) {
					t.Errorf("%s: %v is no path error", name, err)
					continue
				}
				got = pe.Err.Error()
				if errors.Is(err, fs.ErrNotExist) {
					got = fs.ErrNotExist.Error()
				}
			}
			if got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	})
}

func pack(t *testing.T, r *Root, name string) []byte {
	t.Helper()
	var b bytes.Buffer
	must(t, r.Pack(t.Context(), name, &b))
	return b.Bytes()
}

func names(t *testing.T, archive []byte) string {
	t.Helper()
	tr, out := tar.NewReader(bytes.NewReader(archive)), ""
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return strings.TrimSpace(out)
		}
		must(t, err)
		out += h.Name
		if h.Linkname != "" {
			out += "->" + h.Linkname
		}
		out += " "
	}
}

func TestPackNames(t *testing.T) {
	eachWay(t, func(t *testing.T, open func(string) *Root) {
		dir := t.TempDir()
		tree(t, dir, "d/f=1", "d/sub/g=2", "d/l->/etc", "link->/d")
		r := open(dir)
		for name, want := range map[string]string{
			"/d":      "d/ d/f d/l->/etc d/sub/ d/sub/g",
			"/d/":     "d/ d/f d/l->/etc d/sub/ d/sub/g",
			"/d/.":    "./ ./f ./l->/etc ./sub/ ./sub/g",
			"/d/f":    "f",
			"/link":   "link->/d",
			"/link/":  "link/ link/f link/l->/etc link/sub/ link/sub/g",
			"/link/.": "./ ./f ./l->/etc ./sub/ ./sub/g",
			"/":       "/ /d/ /d/f /d/l->/etc /d/sub/ /d/sub/g /link->/d",
		} {
			if got := names(t, pack(t, r, name)); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
	})
}

// TestRoundTrip packs everything that a file system can hold and unpacks it somewhere else; GNU tar judges the archive.
func TestRoundTrip(t *testing.T) {
	needRoot(t)
	from, to := t.TempDir(), t.TempDir()
	tree(t, from, "d/file=content", "d/empty/", "d/rel->file", "d/"+strings.Repeat("long", 40)+"=x", "d/suid=s", "d/ümlaut=u")
	old := time.Unix(1_000_000_000, 0)
	at := func(n string) string { return filepath.Join(from, "d", n) }
	must(t, os.Link(at("file"), at("second")))
	must(t, os.Chown(at("suid"), 12, 34))
	must(t, os.Chmod(at("suid"), 0o711|fs.ModeSetuid))
	must(t, unix.Setxattr(at("suid"), "user.note", []byte("hello\x00there"), 0))
	must(t, unix.Setxattr(at("suid"), "security.capability", []byte("\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0))
	must(t, os.Lchown(at("rel"), 7, 8))
	must(t, unix.Mkfifo(at("pipe"), 0o620))
	must(t, unix.Mknod(at("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))))
	s, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	must(t, err)
	defer unix.Close(s)
	must(t, unix.Bind(s, &unix.SockaddrUnix{Name: at("sock")}))
	must(t, os.Chmod(at("empty"), 0o1777))
	for _, n := range []string{"file", "empty", "."} {
		must(t, os.Chtimes(at(n), old, old))
	}
	archive := pack(t, openRoot(t, from), "/d")
	cmd := exec.Command("tar", "-tvf", "-")
	cmd.Stdin = bytes.NewReader(archive)
	if out, err := cmd.CombinedOutput(); err != nil || strings.Count(string(out), "\n") != 10 {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	must(t, openRoot(t, to).Unpack(t.Context(), "/", bytes.NewReader(archive), UnpackOptions{}))
	must(t, os.Remove(at("sock")))
	must(t, os.Chtimes(at("."), old, old))
	if a, b := details(t, from), details(t, to); a != b {
		t.Fatalf("before:\n%s\nafter:\n%s", a, b)
	}
}

// details lists everything that must survive.
func details(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	must(t, filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || p == dir {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(p, &st); err != nil {
			return err
		}
		mtime := int64(0)
		if st.Mode&unix.S_IFMT != unix.S_IFLNK {
			mtime = st.Mtim.Sec
		}
		links, size := st.Nlink, st.Size
		if d.IsDir() {
			links, size = 0, 0
		}
		fmt.Fprintf(&b, "%s mode %o owner %d:%d links %d rdev %d size %d mtime %d", strings.TrimPrefix(p, dir), st.Mode, st.Uid, st.Gid, links, st.Rdev, size, mtime)
		buf := make([]byte, 100)
		for _, key := range []string{"user.note", "security.capability"} {
			if n, err := unix.Lgetxattr(p, key, buf); err == nil {
				fmt.Fprintf(&b, " %s=%q", key, buf[:n])
			}
		}
		b.WriteByte('\n')
		return nil
	}))
	return b.String()
}

func TestPackAll(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "bin/sh=x", "etc/")
	var b bytes.Buffer
	must(t, openRoot(t, dir).PackAll(t.Context(), &b))
	if got := names(t, b.Bytes()); got != "bin/ bin/sh etc/" {
		t.Fatal(got)
	}
}

// TestPackProc: a file system that lies about sizes and forbids reading does not end the archive.
func TestPackProc(t *testing.T) {
	r := openRoot(t, "/")
	for _, name := range []string{"/proc/self/", "/proc/sys/net/ipv4"} {
		if n := strings.Count(names(t, pack(t, r, name)), " "); n < 10 {
			t.Errorf("%s: %d entries", name, n)
		}
	}
}

func archiveOf(entries ...tar.Header) []byte {
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, h := range entries {
		content := ""
		if h.Typeflag == tar.TypeReg {
			content = "new"
			h.Size = int64(len(content))
		}
		if h.Mode == 0 {
			h.Mode = 0o755
		}
		h.Uid, h.Gid = os.Getuid(), os.Getgid()
		if err := tw.WriteHeader(&h); err != nil {
			panic(err)
		}
		_, _ = io.WriteString(tw, content)
	}
	_ = tw.Close()
	return b.Bytes()
}

func reg(name string) tar.Header  { return tar.Header{Name: name, Typeflag: tar.TypeReg} }
func dirh(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir} }
func sym(name, target string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeSymlink, Linkname: target}
}
func hard(name, target string) tar.Header {
	return tar.Header{Name: name, Typeflag: tar.TypeLink, Linkname: target}
}

// TestHostile: whatever an archive does, nothing outside the root changes.
func TestHostile(t *testing.T) {
	eachWay(t, func(t *testing.T, open func(string) *Root) {
		for name, c := range map[string]struct {
			before  []string
			archive []byte
			after   string // of the root; "refused" for an invalid archive
		}{
			"dot dot":            {nil, archiveOf(reg("../secret")), "refused"},
			"dot dot inside":     {nil, archiveOf(reg("a/../../../secret")), "refused"},
			"absolute":           {nil, archiveOf(reg("/etc/x")), "in/ in/etc/ in/etc/x=new"},
			"link up":            {nil, archiveOf(sym("l", "../../.."), reg("l/secret")), "in/ in/l->../../.. secret=new"},
			"link absolute":      {nil, archiveOf(sym("l", "/"), reg("l/secret")), "in/ in/l->/ secret=new"},
			"link in link":       {nil, archiveOf(sym("a", "/"), sym("a/b", "/.."), reg("a/b/secret")), "b->/.. in/ in/a->/ secret=new"},
			"over a link":        {[]string{"in/l->/../../secret"}, archiveOf(reg("l")), "in/ in/l=new"},
			"hard link up":       {nil, archiveOf(hard("l", "../../secret")), "refused"},
			"hard link by link":  {nil, archiveOf(sym("d", "../.."), hard("l", "d/secret")), "refused"},
			"hard link to link":  {nil, archiveOf(sym("s", "../../secret"), hard("l", "s"), reg("l")), "in/ in/l=new in/s->../../secret"},
			"hard link absolute": {[]string{"in/f=old"}, archiveOf(hard("l", "/f")), "in/ in/f=old in/l=old"},
			"hard link to dir":   {[]string{"in/d/"}, archiveOf(hard("l", "d")), "refused"},
			"dir over link":      {[]string{"in/l->../../"}, archiveOf(dirh("l"), reg("l/secret")), "in/ in/l/ in/l/secret=new"},
			"the place itself":   {nil, archiveOf(dirh("./"), reg("./f")), "in/ in/f=new"},
			"file for the place": {nil, archiveOf(reg(".")), "refused"},
			"replaced parent":    {nil, archiveOf(dirh("d"), reg("d/f"), sym("d", "/"), reg("d/g")), "g=new in/ in/d->/"},
			"self link":          {nil, archiveOf(sym("d", "d"), reg("d/f")), "refused"},
			"dangling parent":    {nil, archiveOf(sym("d", "/no"), reg("d/f")), "refused"},
			"dir to file":        {[]string{"in/d/x/y=1"}, archiveOf(reg("d")), "in/ in/d=new"},
			"file to dir":        {[]string{"in/d=1"}, archiveOf(dirh("d"), reg("d/f")), "in/ in/d/ in/d/f=new"},
			"implied parents":    {nil, archiveOf(reg("a/b/c")), "in/ in/a/ in/a/b/ in/a/b/c=new"},
			"merge":              {[]string{"in/d/old=1"}, archiveOf(dirh("d"), reg("d/f")), "in/ in/d/ in/d/f=new in/d/old=1"},
			"truncated":          {nil, archiveOf(reg("f"))[:514], "refused"},
			"garbage":            {nil, bytes.Repeat([]byte("x"), 2000), "refused"},
		} {
			t.Run(name, func(t *testing.T) {
				top := t.TempDir()
				tree(t, top, "secret=mine", "root/in/")
				tree(t, filepath.Join(top, "root"), c.before...)
				err := open(filepath.Join(top, "root")).Unpack(t.Context(), "/in", bytes.NewReader(c.archive), UnpackOptions{})
				if data, rerr := os.ReadFile(filepath.Join(top, "secret")); rerr != nil || string(data) != "mine" {
					t.Fatal("the secret was reached")
				}
				if top, _ := os.ReadDir(top); len(top) != 2 {
					t.Fatal("something new outside:", top)
				}
				if c.after == "refused" {
					if err == nil {
						t.Fatal("taken:", list(t, filepath.Join(top, "root")))
					}
					return
				}
				must(t, err)
				if got := list(t, filepath.Join(top, "root")); got != c.after {
					t.Fatalf("%s\nwant %s", got, c.after)
				}
			})
		}
	})
}

// TestRace: somebody in the container swaps a directory for a link to the outside while we unpack into it.
func TestRace(t *testing.T) {
	eachWay(t, func(t *testing.T, open func(string) *Root) {
		top := t.TempDir()
		tree(t, top, "out/", "root/in/d/", "root/evil->../../out")
		root := filepath.Join(top, "root")
		r := open(root)
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			a, b := filepath.Join(root, "in/d"), filepath.Join(root, "evil")
			for {
				select {
				case <-stop:
					return
				default:
					_ = unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
				}
			}
		}()
		archive := archiveOf(reg("d/x/f"), reg("d/y"), reg("d/x/g"))
		for range 300 {
			_ = r.Unpack(t.Context(), "/in", bytes.NewReader(archive), UnpackOptions{})
			_ = r.Pack(t.Context(), "/in/d/x", io.Discard)
		}
		close(stop)
		<-done
		if left, _ := os.ReadDir(filepath.Join(top, "out")); len(left) != 0 {
			t.Fatal("escaped:", left)
		}
	})
}

func TestNoOverwriteDirNonDir(t *testing.T) {
	for _, c := range []struct {
		archive []byte
		text    string
	}{
		{archiveOf(reg("d")), `cannot overwrite directory "/in/d" with non-directory "/in"`},
		{archiveOf(dirh("f")), `cannot overwrite non-directory "/in/f" with directory "/in"`},
	} {
		dir := t.TempDir()
		tree(t, dir, "in/d/", "in/f=1")
		err := openRoot(t, dir).Unpack(t.Context(), "/in", bytes.NewReader(c.archive), UnpackOptions{NoOverwriteDirNonDir: true})
		if !errors.Is(err, errdefs.ErrInvalidArgument) || err.Error() != c.text {
			t.Errorf("%v, want %s", err, c.text)
		}
		if got := list(t, dir); got != "in/ in/d/ in/f=1" {
			t.Error(got)
		}
	}
}

func TestUnpackPlace(t *testing.T) {
	dir := t.TempDir()
	tree(t, dir, "f=1", "d/", "l->/d", "lf->f")
	r := openRoot(t, dir)
	for name, want := range map[string]error{"/f": ErrNotDirectory, "/lf": ErrNotDirectory, "/no": fs.ErrNotExist, "/l": nil} {
		if err := r.Unpack(t.Context(), name, bytes.NewReader(archiveOf(reg("x"))), UnpackOptions{}); !errors.Is(err, want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := list(t, dir); got != "d/ d/x=new f=1 l->/d lf->f" {
		t.Error(got)
	}
}

func TestCompressed(t *testing.T) {
	plain := archiveOf(reg("f"))
	var gz bytes.Buffer
	zw := gzip.NewWriter(&gz)
	_, _ = zw.Write(plain)
	must(t, zw.Close())
	archives := map[string][]byte{"plain": plain, "gzip": gz.Bytes()}
	for _, tool := range []string{"bzip2", "xz", "zstd"} {
		cmd := exec.Command(tool, "-c")
		cmd.Stdin = bytes.NewReader(plain)
		if out, err := cmd.Output(); err == nil {
			archives[tool] = out
		} else {
			t.Log("not tried:", tool, err)
		}
	}
	for name, a := range archives {
		dir := t.TempDir()
		if err := openRoot(t, dir).Unpack(t.Context(), "/", bytes.NewReader(a), UnpackOptions{}); err != nil || list(t, dir) != "f=new" {
			t.Error(name, err, list(t, dir))
		}
		if name != "plain" {
			if err := openRoot(t, dir).Unpack(t.Context(), "/", bytes.NewReader(a[:len(a)/2]), UnpackOptions{}); !errors.Is(err, errdefs.ErrInvalidArgument) {
				t.Error("half of", name, err)
			}
		}
	}
}

// TestLargeContent: contents of every size around the block, with zeros in them, arrive whole.
func TestLargeContent(t *testing.T) {
	for _, size := range []int{0, 1, blockLen - 1, blockLen, blockLen + 1, 3 * blockLen, 3*blockLen + 7} {
		from, to := t.TempDir(), t.TempDir()
		data := make([]byte, size)
		for i := range data {
			if i/blockLen != 1 { // the second block is a hole
				data[i] = byte(i)
			}
		}
		must(t, os.WriteFile(filepath.Join(from, "f"), data, 0o600))
		must(t, openRoot(t, to).Unpack(t.Context(), "/", bytes.NewReader(pack(t, openRoot(t, from), "/f")), UnpackOptions{}))
		if got, err := os.ReadFile(filepath.Join(to, "f")); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes became %d: %v", size, len(got), err)
		}
	}
}

func TestUser(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	tree(t, dir, "etc/passwd=root:x:0:0::/:\napp:x:1000:1001::/:\n", "etc/group=staff:x:50:\n")
	r := openRoot(t, dir)
	for spec, want := range map[string]Owner{"": {0, 0}, "app": {1000, 1001}, "app:staff": {1000, 50}, "5:6": {5, 6}} {
		if o, err := r.User(spec); err != nil || *o != want {
			t.Errorf("%q: %v %v", spec, o, err)
		}
	}
	if _, err := r.User("nobody-here"); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Error(err)
	}
	must(t, r.Unpack(t.Context(), "/", bytes.NewReader(archiveOf(reg("f"), sym("l", "f"))), UnpackOptions{Owner: &Owner{77, 88}}))
	for _, n := range []string{"f", "l"} {
		var st unix.Stat_t
		must(t, unix.Lstat(filepath.Join(dir, n), &st))
		if st.Uid != 77 || st.Gid != 88 {
			t.Errorf("%s belongs to %d:%d", n, st.Uid, st.Gid)
		}
	}
}

// TestOpenMounted: a stopped container with nested, missing and read-only mounts.
// TestMain keeps the first thread, which is /proc/self, out of other namespaces, as the program's main does.
func TestMain(m *testing.M) {
	runtime.LockOSThread()
	os.Exit(m.Run())
}

func TestOpenMounted(t *testing.T) {
	needRoot(t)
	top := t.TempDir()
	tree(t, top, "root/etc/hosts=image", "root/data/shadowed=x", "root/abs->/data", "vol/v=1", "ro/r=2", "inner/i=3", "file=bound", "outside=x")
	src := func(n string) string { return filepath.Join(top, n) }
	r, err := OpenMounted(src("root"), []Bind{
		{Source: src("inner"), Destination: "/data/in/ner"},
		{Source: src("vol"), Destination: "/data"},
		{Source: src("ro"), Destination: "/new/ro", ReadOnly: true},
		{Source: src("file"), Destination: "/etc/hosts"},
		{Source: src("gone"), Destination: "/gone"},
	}, Shift{})
	must(t, err)
	for name, want := range map[string]string{
		"/data":      "data/ data/in/ data/in/ner/ data/in/ner/i data/v",
		"/abs/v":     "v",
		"/new/ro":    "ro/ ro/r",
		"/etc/hosts": "hosts",
	} {
		if got := names(t, pack(t, r, name)); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if i, err := r.Stat("/etc/hosts"); err != nil || i.Size != 5 {
		t.Error(i, err)
	}
	if err := r.Unpack(t.Context(), "/new/ro", bytes.NewReader(archiveOf(reg("f"))), UnpackOptions{}); !errors.Is(err, unix.EROFS) {
		t.Error("read-only:", err)
	}
	must(t, r.Unpack(t.Context(), "/abs/in", bytes.NewReader(archiveOf(reg("f"), sym("up", "/../../../../outside"), reg("ner/g"))), UnpackOptions{}))
	if got := list(t, src("vol")); got != "in/ in/f=new in/ner/ in/up->/../../../../outside v=1" {
		t.Error(got)
	}
	if got := list(t, src("inner")); got != "g=new i=3" {
		t.Error(got)
	}
	if m := mountsOf(t, top); m != "" {
		t.Error("mounts show outside:", m)
	}
	must(t, r.Close())
	if got := list(t, src("root")); got != "abs->/data data/ data/shadowed=x etc/ etc/hosts=image new/ new/ro/" {
		t.Error(got)
	}
}

// mountsOf are the test's mounts that the host sees, whatever else comes and goes on it.
func mountsOf(t *testing.T, top string) string {
	t.Helper()
	data, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	var found []string
	for _, line := range strings.Split(string(data), "\n") {
		if strings.Contains(line, top) {
			found = append(found, line)
		}
	}
	return strings.Join(found, "\n")
}

// TestOpenMountedFailure leaves no namespace, descriptor or goroutine behind.
func TestOpenMountedFailure(t *testing.T) {
	needRoot(t)
	top := t.TempDir()
	tree(t, top, "root/f=1", "vol/")
	before := descriptors(t)
	for range 20 {
		if _, err := OpenMounted(filepath.Join(top, "root"), []Bind{{Source: filepath.Join(top, "vol"), Destination: "/f/sub"}}, Shift{}); err == nil {
			t.Fatal("a mount below a file")
		}
	}
	for i := 0; descriptors(t) > before && i < 100; i++ {
		runtime.Gosched()
	}
	if n := descriptors(t); n > before {
		t.Fatal(n-before, "descriptors left")
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	must(t, err)
	return len(d)
}

// TestOpenProcess looks at a process in a mount namespace of its own, as a container has it.
func TestOpenProcess(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	tree(t, dir, "bin/", "data/", "tmp/")
	box, err := exec.LookPath("busybox")
	if err != nil {
		t.Skip("needs busybox")
	}
	data, err := os.ReadFile(box)
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "bin/busybox"), data, 0o755))
	script := "mount -t tmpfs tmpfs " + dir + "/data && echo inside > " + dir + "/data/f && exec chroot " + dir + " /bin/busybox sh -c 'echo ready; read x'"
	cmd := exec.Command("unshare", "-m", "sh", "-c", script)
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	defer func() { _ = in.Close(); _ = cmd.Wait() }()
	if _, err := io.ReadFull(out, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	r, err := OpenProcess(cmd.Process.Pid, dir)
	must(t, err)
	defer r.Close()
	if got := names(t, pack(t, r, "/data")); got != "data/ data/f" {
		t.Error(got)
	}
	must(t, r.Unpack(t.Context(), "/data", bytes.NewReader(archiveOf(reg("g"))), UnpackOptions{}))
	if got := list(t, filepath.Join(dir, "data")); got != "" {
		t.Error("written outside the namespace:", got)
	}
	if _, err := OpenProcess(os.Getpid(), dir); !errors.Is(err, ErrGone) {
		t.Error("another process was taken:", err)
	}
}

func FuzzUnpack(f *testing.F) {
	for _, a := range [][]byte{
		archiveOf(reg("a/b"), sym("l", "../.."), hard("h", "a/b"), dirh("d/"), reg("l/x")),
		archiveOf(tar.Header{Name: "n", Typeflag: tar.TypeFifo}), archiveOf(reg("../x")),
	} {
		f.Add(a, false)
		f.Add(a, true)
	}
	f.Fuzz(func(t *testing.T, archive []byte, slow bool) {
		top := t.TempDir()
		tree(t, top, "root/in/l->../../..", "root/in/f=1")
		r := openRoot(t, filepath.Join(top, "root"))
		r.resolve = r.resolve && !slow
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_ = r.Unpack(ctx, "/in", bytes.NewReader(archive), UnpackOptions{Owner: &Owner{os.Getuid(), os.Getgid()}})
		if d, _ := os.ReadDir(top); len(d) != 1 {
			t.Fatal("escaped:", d)
		}
	})
}
