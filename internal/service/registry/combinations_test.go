package registry_test

import (
	"bytes"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/core/blob"
	"longshore/internal/core/distribution"
	"longshore/internal/core/registryindex"
	"longshore/internal/driver/blobdisk"
	"longshore/internal/driver/blobs3"
	"longshore/internal/driver/blobs3/s3test"
	"longshore/internal/driver/sqlmeta"
	"longshore/internal/driver/sqlmeta/postgrestest"
	"longshore/internal/service/registry"
)

// TestCombinations runs one life of a repository on every combination of blob store and index.
func TestCombinations(t *testing.T) {
	stores := map[string]func(t *testing.T) blob.Store{
		"disk": func(t *testing.T) blob.Store {
			s, err := blobdisk.New(t.TempDir())
			must(t, err)
			return s
		},
		"s3": func(t *testing.T) blob.Store {
			s, err := blobs3.New(ctx, s3test.Start(t))
			must(t, err)
			return s
		},
	}
	indexes := map[string]func(t *testing.T) registryindex.Index{
		"sqlite": func(t *testing.T) registryindex.Index {
			x, err := sqlmeta.OpenSQLite(ctx, filepath.Join(t.TempDir(), "index.db"))
			must(t, err)
			return x
		},
		"postgres": func(t *testing.T) registryindex.Index {
			x, err := sqlmeta.OpenPostgres(ctx, postgrestest.Start(t).DSN("postgres"))
			must(t, err)
			return x
		},
	}
	for storeName, store := range stores {
		for indexName, index := range indexes {
			t.Run(storeName+"-"+indexName, func(t *testing.T) {
				x := index(t)
				t.Cleanup(func() { x.Close() })
				s := store(t)
				c := newClock()
				shared := func(cfg *registry.Config) { cfg.Shared, cfg.Redirect = indexName == "postgres", true }
				life(t, rigOn(t, "", c, x, s, shared), rigOn(t, "", c, x, s, shared))
			})
		}
	}
}

// life is push, pull, mount, delete and collection. r and other are two services over the same store and index, as two
// instances (PostgreSQL) or a restart (SQLite) would be.
func life(t *testing.T, r, other *rig) {
	small, large := random(100), random(9<<20)
	config := random(300)
	r.push("team/app", small)
	id := start(t, r, "team/app")
	_, err := r.AppendUpload(ctx, "team/app", id, chunk(0, large[:5000]))
	must(t, err)
	up, err := other.Upload(ctx, "team/app", id)
	must(t, err)
	if up.Offset != 5000 {
		t.Fatalf("offset %d", up.Offset)
	}
	_, err = other.FinishUpload(ctx, "team/app", id, sha(large), chunk(5000, large[5000:]))
	must(t, err)
	id = start(t, r, "team/app")
	_, err = r.FinishUpload(ctx, "team/app", id, sha(config), chunk(-1, config))
	must(t, err)
	doc := image(nil, config, small, large)
	_, err = r.put("team/app", "v1", ociManifest, doc)
	must(t, err)
	for _, s := range []*rig{r, other} {
		m, err := s.get("team/app", "v1")
		must(t, err)
		if !bytes.Equal(m.Payload, doc) {
			t.Fatal("another manifest came back")
		}
		got, err := s.read("team/app", sha(large))
		must(t, err)
		if !bytes.Equal(got, large) {
			t.Fatal("other bytes came back")
		}
	}
	url, err := r.BlobURL(ctx, "team/app", sha(small))
	must(t, err)
	if _, can := r.store.(blob.Redirector); can != (url != "") {
		t.Fatalf("redirect to %q", url)
	}
	_, ok, err := other.MountBlob(ctx, registry.Mount{Repo: "other", From: "team/app", Digest: sha(small)})
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	must(t, other.DeleteManifest(ctx, "team/app", ref(sha(doc).String())))
	r.clock.Add(time.Second)
	r.clock.Add(2 * time.Hour)
	if _, err := r.StatBlob(ctx, "other", sha(small)); err != nil {
		t.Fatal(err)
	}
	r.clock.Add(25 * time.Hour)
	if _, err := r.StatBlob(ctx, "other", sha(small)); err != nil { // in use: spared
		t.Fatal(err)
	}
	report := r.collect(registry.GCOptions{})
	if report.Blobs != 2 || report.Links != 3 {
		t.Fatalf("collected %+v", report)
	}
	_, err = r.read("team/app", sha(large))
	wantCode(t, err, distribution.CodeBlobUnknown)
	got, err := r.read("other", sha(small))
	must(t, err)
	if !bytes.Equal(got, small) {
		t.Fatal("other bytes came back")
	}
	if _, err := r.PathOf(ctx, "other", sha(small)); err != nil && !errdefs.IsNotImplemented(err) {
		t.Fatal(err)
	}
	wantNoDanglingLink(t, r.index, r.store)
}
