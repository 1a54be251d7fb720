// Package blobtest is the conformance suite of blob.Store: every implementation runs it.
//
//	blobtest.Run(t, func(t *testing.T) blobtest.Rig { … })
package blobtest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/blob"
)

// Rig is an empty store and what the suite must be able to do to it.
type Rig struct {
	Store blob.Store
	// Reopen gives the store as another process would find it after this one was killed.
	Reopen func() blob.Store
	// Leftovers counts what lies in the store beside blobs: files, objects, parts.
	Leftovers func() int
	// Big is the size of a blob that the store treats as large.
	Big int
}

// Run runs the suite.
func Run(t *testing.T, open func(t *testing.T) Rig) {
	cases := []struct {
		name string
		run  func(*testing.T, Rig)
	}{
		{"Put", put}, {"PutRefuses", putRefuses}, {"PutTwice", putTwice}, {"Chunks", chunks}, {"Algorithms", algorithms},
		{"Offsets", offsets}, {"BrokenChunk", brokenChunk}, {"WrongDigest", wrongDigest}, {"Resume", resume},
		{"Cancel", cancel}, {"Sweep", sweep}, {"Seek", seek}, {"OpenSurvivesDelete", openSurvivesDelete}, {"Walk", walk},
		{"Concurrent", concurrent}, {"BadNames", badNames},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) { c.run(t, open(t)) })
	}
}

var ctx = context.Background()

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

func sum(b []byte) digest.Digest { return digest.SHA256.FromBytes(b) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantClass(t testing.TB, err error, is func(error) bool, what string) {
	t.Helper()
	if !is(err) {
		t.Fatalf("got %v, want class %s", err, what)
	}
}

// wantBlob reads the blob and compares.
func wantBlob(t testing.TB, s blob.Store, d digest.Digest, want []byte) {
	t.Helper()
	info, err := s.Stat(ctx, d)
	must(t, err)
	if info.Size != int64(len(want)) || info.Digest != d || time.Since(info.Modified) > time.Hour {
		t.Fatalf("stat: %+v, want %d bytes", info, len(want))
	}
	c, err := s.Open(ctx, d)
	must(t, err)
	defer c.Close()
	got, err := io.ReadAll(c)
	must(t, err)
	if c.Size != int64(len(want)) || !bytes.Equal(got, want) {
		t.Fatalf("read %d bytes that differ from the %d stored", len(got), len(want))
	}
}

func wantAbsent(t testing.TB, s blob.Store, d digest.Digest) {
	t.Helper()
	_, err := s.Stat(ctx, d)
	wantClass(t, err, errdefs.IsNotFound, "not found")
	_, err = s.Open(ctx, d)
	wantClass(t, err, errdefs.IsNotFound, "not found")
}

func wantNothingLeft(t testing.TB, r Rig) {
	t.Helper()
	if n := r.Leftovers(); n != 0 {
		t.Fatalf("%d leftovers", n)
	}
}

func begin(t testing.TB, s blob.Store, key string) {
	t.Helper()
	must(t, s.Begin(ctx, key, digest.SHA256))
}

func appendAt(t testing.TB, s blob.Store, key string, at int64, data []byte) int64 {
	t.Helper()
	n, err := s.Append(ctx, key, at, bytes.NewReader(data))
	must(t, err)
	return n
}

func put(t *testing.T, r Rig) {
	for _, n := range []int{0, 1, 5000, r.Big, 2*r.Big + 17} {
		data := random(n)
		wantAbsent(t, r.Store, sum(data))
		info, err := r.Store.Put(ctx, sum(data), int64(n), bytes.NewReader(data))
		must(t, err)
		if info.Size != int64(n) {
			t.Fatalf("put: %+v", info)
		}
		wantBlob(t, r.Store, sum(data), data)
		wantBlob(t, r.Reopen(), sum(data), data)
	}
	data := random(r.Big + 3)
	_, err := r.Store.Put(ctx, digest.SHA512.FromBytes(data), -1, bytes.NewReader(data))
	must(t, err)
	wantBlob(t, r.Store, digest.SHA512.FromBytes(data), data)
	wantNothingLeft(t, r)
}

// broken fails after its data.
func broken(data []byte) io.Reader {
	return io.MultiReader(bytes.NewReader(data), failing{})
}

var errClient = errors.New("the client is gone")

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errClient }

func putRefuses(t *testing.T, r Rig) {
	for _, n := range []int{100, r.Big + 5} {
		data := random(n)
		d := sum(data)
		_, err := r.Store.Put(ctx, d, int64(n), bytes.NewReader(random(n)))
		wantClass(t, err, errdefs.IsInvalidArgument, "invalid argument: other bytes")
		_, err = r.Store.Put(ctx, d, -1, bytes.NewReader(data[:n-1]))
		wantClass(t, err, errdefs.IsInvalidArgument, "invalid argument: too few bytes")
		if _, err = r.Store.Put(ctx, d, int64(n), bytes.NewReader(data[:n-1])); err == nil {
			t.Fatal("fewer bytes than promised were accepted")
		}
		if _, err = r.Store.Put(ctx, d, int64(n), broken(data[:n-1])); !errors.Is(err, errClient) {
			t.Fatalf("got %v", err)
		}
		wantAbsent(t, r.Store, d)
	}
	wantNothingLeft(t, r)
}

func putTwice(t *testing.T, r Rig) {
	data := random(3000)
	for range 3 {
		_, err := r.Store.Put(ctx, sum(data), -1, bytes.NewReader(data))
		must(t, err)
		begin(t, r.Store, "again")
		appendAt(t, r.Store, "again", -1, data)
		_, err = r.Store.Commit(ctx, "again", sum(data))
		must(t, err)
	}
	wantBlob(t, r.Store, sum(data), data)
	must(t, r.Store.Delete(ctx, sum(data)))
	must(t, r.Store.Delete(ctx, sum(data))) // idempotent
	wantAbsent(t, r.Store, sum(data))
	wantNothingLeft(t, r)
}

func chunks(t *testing.T, r Rig) {
	for _, sizes := range [][]int{{}, {0}, {1, 2, 3}, {100, r.Big}, {r.Big + 1, r.Big - 1, 10}, {2*r.Big + 5}} {
		var data []byte
		begin(t, r.Store, "up-1")
		for _, n := range sizes {
			chunk := random(n)
			at := int64(len(data))
			data = append(data, chunk...)
			if got := appendAt(t, r.Store, "up-1", at, chunk); got != int64(len(data)) {
				t.Fatalf("%v: the upload holds %d of %d", sizes, got, len(data))
			}
			n, err := r.Store.Offset(ctx, "up-1")
			must(t, err)
			if n != int64(len(data)) {
				t.Fatalf("%v: offset %d of %d", sizes, n, len(data))
			}
		}
		wantAbsent(t, r.Store, sum(data))
		info, err := r.Store.Commit(ctx, "up-1", sum(data))
		must(t, err)
		if info.Size != int64(len(data)) || info.Digest != sum(data) {
			t.Fatalf("%v: %+v", sizes, info)
		}
		wantBlob(t, r.Store, sum(data), data)
		_, err = r.Store.Offset(ctx, "up-1")
		wantClass(t, err, errdefs.IsNotFound, "not found: a committed upload is gone")
		must(t, r.Store.Delete(ctx, sum(data)))
	}
	wantNothingLeft(t, r)
}

// algorithms: what an upload was begun with need not be what it ends with.
func algorithms(t *testing.T, r Rig) {
	for _, n := range []int{1000, r.Big + 1} {
		for _, from := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
			for _, to := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
				data := random(n)
				must(t, r.Store.Begin(ctx, "alg", from))
				appendAt(t, r.Store, "alg", -1, data[:n/2])
				appendAt(t, r.Store, "alg", -1, data[n/2:])
				_, err := r.Store.Commit(ctx, "alg", to.FromBytes(data))
				must(t, err)
				wantBlob(t, r.Store, to.FromBytes(data), data)
			}
		}
	}
	err := r.Store.Begin(ctx, "alg2", "md5")
	wantClass(t, err, errdefs.IsInvalidArgument, "invalid argument")
	wantNothingLeft(t, r)
}

func offsets(t *testing.T, r Rig) {
	_, err := r.Store.Append(ctx, "none", -1, bytes.NewReader(nil))
	wantClass(t, err, errdefs.IsNotFound, "not found")
	_, err = r.Store.Offset(ctx, "none")
	wantClass(t, err, errdefs.IsNotFound, "not found")
	_, err = r.Store.Commit(ctx, "none", sum(nil))
	wantClass(t, err, errdefs.IsNotFound, "not found")
	begin(t, r.Store, "up")
	data := random(300)
	appendAt(t, r.Store, "up", 0, data[:100])
	for _, at := range []int64{0, 99, 101, 1 << 40} {
		n, err := r.Store.Append(ctx, "up", at, bytes.NewReader(data[100:]))
		wantClass(t, err, errdefs.IsOutOfRange, "out of range")
		if n != 100 {
			t.Fatalf("offset %d after a chunk at %d", n, at)
		}
	}
	appendAt(t, r.Store, "up", 100, data[100:])
	_, err = r.Store.Commit(ctx, "up", sum(data))
	must(t, err)
	wantBlob(t, r.Store, sum(data), data)
}

// brokenChunk: what came before the client went away stays, and the upload goes on from there.
func brokenChunk(t *testing.T, r Rig) {
	data := random(2*r.Big + 100)
	begin(t, r.Store, "up")
	cut := r.Big + 50
	n, err := r.Store.Append(ctx, "up", 0, broken(data[:cut]))
	if !errors.Is(err, errClient) {
		t.Fatalf("got %v", err)
	}
	held, err := r.Store.Offset(ctx, "up")
	must(t, err)
	if n != held || held > int64(cut) {
		t.Fatalf("%d told, %d held, %d sent", n, held, cut)
	}
	appendAt(t, r.Store, "up", held, data[held:])
	_, err = r.Store.Commit(ctx, "up", sum(data))
	must(t, err)
	wantBlob(t, r.Store, sum(data), data)
	wantNothingLeft(t, r)
}

func wrongDigest(t *testing.T, r Rig) {
	for _, n := range []int{10, r.Big + 10} {
		data := random(n)
		begin(t, r.Store, "up")
		appendAt(t, r.Store, "up", -1, data)
		wrong := sum(random(10))
		_, err := r.Store.Commit(ctx, "up", wrong)
		wantClass(t, err, errdefs.IsInvalidArgument, "invalid argument")
		wantAbsent(t, r.Store, wrong)
		wantAbsent(t, r.Store, sum(data))
		_, err = r.Store.Offset(ctx, "up")
		wantClass(t, err, errdefs.IsNotFound, "not found: the upload is gone")
	}
	wantNothingLeft(t, r)
}

// resume: another process goes on with the upload.
func resume(t *testing.T, r Rig) {
	data := random(2*r.Big + 1000)
	begin(t, r.Store, "up")
	cuts := []int{0, 10, r.Big + 5, 2 * r.Big, len(data)}
	s := r.Store
	for i := 1; i < len(cuts); i++ {
		n, err := s.Offset(ctx, "up")
		must(t, err)
		if n != int64(cuts[i-1]) {
			t.Fatalf("offset %d, want %d", n, cuts[i-1])
		}
		appendAt(t, s, "up", n, data[cuts[i-1]:cuts[i]])
		s = r.Reopen()
	}
	_, err := s.Commit(ctx, "up", sum(data))
	must(t, err)
	wantBlob(t, s, sum(data), data)
	wantNothingLeft(t, r)
}

func cancel(t *testing.T, r Rig) {
	begin(t, r.Store, "up")
	appendAt(t, r.Store, "up", -1, random(r.Big+1))
	must(t, r.Store.Cancel(ctx, "up"))
	wantClass(t, r.Store.Cancel(ctx, "up"), errdefs.IsNotFound, "not found")
	_, err := r.Store.Append(ctx, "up", -1, bytes.NewReader(nil))
	wantClass(t, err, errdefs.IsNotFound, "not found")
	wantNothingLeft(t, r)
}

func sweep(t *testing.T, r Rig) {
	begin(t, r.Store, "one")
	appendAt(t, r.Store, "one", -1, random(r.Big+1))
	begin(t, r.Reopen(), "two")
	n, err := r.Store.Sweep(ctx, time.Now().Add(-time.Hour))
	must(t, err)
	if n != 0 {
		t.Fatalf("%d young uploads were swept", n)
	}
	n, err = r.Store.Sweep(ctx, time.Now().Add(time.Hour))
	must(t, err)
	if n != 2 {
		t.Fatalf("swept %d of 2", n)
	}
	_, err = r.Store.Offset(ctx, "one")
	wantClass(t, err, errdefs.IsNotFound, "not found")
	wantNothingLeft(t, r)
}

func seek(t *testing.T, r Rig) {
	data := random(r.Big + 100)
	_, err := r.Store.Put(ctx, sum(data), int64(len(data)), bytes.NewReader(data))
	must(t, err)
	c, err := r.Store.Open(ctx, sum(data))
	must(t, err)
	defer c.Close()
	for _, from := range []int64{50, 0, int64(len(data)) - 1, int64(len(data)), 7} {
		at, err := c.Seek(from, io.SeekStart)
		must(t, err)
		got, err := io.ReadAll(io.LimitReader(c, 30))
		must(t, err)
		if want := data[from:min(from+30, int64(len(data)))]; at != from || !bytes.Equal(got, want) {
			t.Fatalf("at %d: %d bytes that differ", from, len(got))
		}
	}
	if end, err := c.Seek(0, io.SeekEnd); err != nil || end != c.Size {
		t.Fatal(end, err)
	}
	if _, err := c.Seek(-1, io.SeekStart); err == nil {
		t.Fatal("a negative offset was accepted")
	}
}

// openSurvivesDelete: the collector does not break a pull that has begun.
func openSurvivesDelete(t *testing.T, r Rig) {
	data := random(r.Big)
	_, err := r.Store.Put(ctx, sum(data), int64(len(data)), bytes.NewReader(data))
	must(t, err)
	c, err := r.Store.Open(ctx, sum(data))
	must(t, err)
	defer c.Close()
	head := make([]byte, 1000)
	_, err = io.ReadFull(c, head)
	must(t, err)
	must(t, r.Store.Delete(ctx, sum(data)))
	tail, err := io.ReadAll(c)
	must(t, err)
	if !bytes.Equal(append(head, tail...), data) {
		t.Fatal("the open blob changed")
	}
}

func walk(t *testing.T, r Rig) {
	want := map[digest.Digest]int64{}
	for i := range 20 {
		data := random(i * 10)
		_, err := r.Store.Put(ctx, sum(data), -1, bytes.NewReader(data))
		must(t, err)
		want[sum(data)] = int64(len(data))
	}
	begin(t, r.Store, "open")
	must(t, r.Store.Walk(ctx, func(i blob.Info) error {
		if size, ok := want[i.Digest]; !ok || size != i.Size {
			t.Errorf("walked into %+v", i)
		}
		delete(want, i.Digest)
		return nil
	}))
	if len(want) != 0 {
		t.Fatalf("not walked: %v", want)
	}
	stop := errors.New("stop")
	if err := r.Store.Walk(ctx, func(blob.Info) error { return stop }); !errors.Is(err, stop) {
		t.Fatalf("got %v", err)
	}
}

// concurrent: many uploads at once, some of the same bytes, and two requests on one upload.
func concurrent(t *testing.T, r Rig) {
	shared := random(r.Big / 2)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 3 {
				data := shared
				if j == 1 {
					data = random(1000)
				}
				key := fmt.Sprintf("up-%d-%d", i, j)
				begin(t, r.Store, key)
				appendAt(t, r.Store, key, 0, data)
				_, err := r.Store.Commit(ctx, key, sum(data))
				must(t, err)
				wantBlob(t, r.Store, sum(data), data)
			}
		})
	}
	wg.Wait()
	begin(t, r.Store, "contended")
	held, free := make(chan struct{}), make(chan struct{})
	wg.Go(func() {
		_, err := r.Store.Append(ctx, "contended", 0, &gate{held: held, free: free})
		must(t, err)
	})
	<-held
	_, err := r.Store.Append(ctx, "contended", 0, bytes.NewReader([]byte("x")))
	wantClass(t, err, errdefs.IsOutOfRange, "out of range: another request is writing")
	close(free)
	wg.Wait()
	_, err = r.Store.Commit(ctx, "contended", sum([]byte("gate")))
	must(t, err)
	wantNothingLeft(t, r)
}

// gate is a body that tells when it is read and waits.
type gate struct {
	held, free chan struct{}
	done       bool
}

func (g *gate) Read(p []byte) (int, error) {
	if g.done {
		return 0, io.EOF
	}
	close(g.held)
	<-g.free
	g.done = true
	return copy(p, "gate"), nil
}

func badNames(t *testing.T, r Rig) {
	for _, key := range []string{"", "..", "a/b", "../x", "UP", "a b", "put-1", "é", string(make([]byte, 101))} {
		if err := r.Store.Begin(ctx, key, digest.SHA256); !errdefs.IsInvalidArgument(err) {
			t.Fatalf("key %q: %v", key, err)
		}
		if _, err := r.Store.Append(ctx, key, -1, bytes.NewReader(nil)); !errdefs.IsInvalidArgument(err) {
			t.Fatalf("key %q: %v", key, err)
		}
	}
	for _, d := range []digest.Digest{"", "sha256:..", "sha256:../../x", "sha256:ABC", "md5:d41d8cd98f00b204e9800998ecf8427e"} {
		if _, err := r.Store.Stat(ctx, d); !errdefs.IsInvalidArgument(err) {
			t.Fatalf("digest %q: %v", d, err)
		}
		if _, err := r.Store.Put(ctx, d, -1, bytes.NewReader(nil)); !errdefs.IsInvalidArgument(err) {
			t.Fatalf("digest %q: %v", d, err)
		}
		if err := r.Store.Delete(ctx, d); !errdefs.IsInvalidArgument(err) {
			t.Fatalf("digest %q: %v", d, err)
		}
	}
	begin(t, r.Store, "once")
	if err := r.Store.Begin(ctx, "once", digest.SHA256); !errdefs.IsAlreadyExists(err) {
		t.Fatalf("got %v", err)
	}
}
