package registryv1

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"

	"longshore/internal/boot/registryboot"
	"longshore/internal/boot/registryboot/registrytest"
	"longshore/internal/core/imagev1"
	"longshore/internal/driver/blobs3/s3test"
	"longshore/internal/driver/sqlmeta/postgrestest"
	"longshore/internal/service/registry"
)

// bzip2Layer holds the file "legacy". Go has no packer for it.
const bzip2Layer = "QlpoOTFBWSZTWbQUxukAAHf7gMoACABAAH2AABBujd4gCAggAHUNUeUNqaYmmgaekeoJJR6jQMgAAfewJkIOHQhEepVEL2pQIZMbaycTsihgoYBXnKe1ISIgTsQa" +
	"GFjD3oV8Wx4WVKvRnMzPnckH4u5IpwoSFoKY3SA="

// TestPackedAsNobodyPacks: layers of docker before 0.6 stay as they are for clients of the time, and are gzip for today's.
func TestPackedAsNobodyPacks(t *testing.T) {
	r := registrytest.Start(t, registrytest.Plain, on)
	c := newClient(t, r.Addr, "", "")
	bz, err := base64.StdEncoding.DecodeString(bzip2Layer)
	if err != nil {
		t.Fatal(err)
	}
	plain := tarOf(t, file{"new", "of xz", 0})
	var packed bytes.Buffer
	w, err := xz.NewWriter(&packed)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	base := newImage(t, "bzip2", nil, nil, bz)
	mid := newImage(t, "xz", &base, nil, packed.Bytes())
	chain := []image{base, mid, newImage(t, "zstd", &mid, nil, enc.EncodeAll(plain, nil))}
	c.push("foo/bar", "v1", chain[:2])
	same(t, c.pull("foo/bar", "v1"), chain[:2])
	layers, err := pullV2(t, r.Addr, "foo/bar:v1").Layers()
	if err != nil || len(layers) != 2 {
		t.Fatal(layers, err)
	}
	if !bytes.Contains(contentOf(t, layers[0]), []byte("packed long ago")) || !bytes.Equal(contentOf(t, layers[1]), plain) {
		t.Fatal("the files are others")
	}
	// A client that packs with zstd gets what clients of the time could read.
	s := c.begin("foo/bar", chain)
	s.pushImage(chain[2])
	s.send("PUT", "/v1/repositories/foo/bar/tags/v2", strings.NewReader(`"`+chain[2].id+`"`)).want(t, 200)
	if a := c.do("GET", r.Addr, "/v1/images/"+chain[2].id+"/layer", nil).want(t, 200); !bytes.Equal(a.body, plain) {
		t.Fatalf("%d bytes", len(a.body))
	}
	pullV2(t, r.Addr, "foo/bar:v2")
}

// TestTarSums: the checksums of docker before 0.10 are looked at where they are the only ones.
func TestTarSums(t *testing.T) {
	r := registrytest.Start(t, registrytest.Plain, on)
	c := newClient(t, r.Addr, "", "")
	for n, v := range []imagev1.TarSumVersion{imagev1.TarSum0, imagev1.TarSum1, imagev1.TarSumDev} {
		layer := tarOf(t, file{"b", "x", 0}, file{"a", "y", 0})
		i := newImage(t, "tarsum "+string(v), nil, nil, gzipped(t, layer))
		sum, err := imagev1.TarSum(v, i.json, bytes.NewReader(layer))
		if err != nil {
			t.Fatal(err)
		}
		wrong := strings.Replace(sum.String(), sum.Hex, idOf("wrong"), 1)
		path := "/v1/images/" + i.id + "/"
		put := func(kind string, body []byte, status int, header ...string) {
			t.Helper()
			c.do("PUT", r.Addr, path+kind, bytes.NewReader(body), header...).want(t, status)
		}
		switch n {
		case 0: // told with the document
			put("json", i.json, 200, "X-Docker-Checksum", wrong)
			put("layer", i.layer, 400)
			put("json", i.json, 200, "X-Docker-Checksum", sum.String())
			put("layer", i.layer, 200)
		case 1: // told with the layer
			put("json", i.json, 200)
			put("layer", i.layer, 400, "X-Docker-Checksum", wrong)
			put("layer", i.layer, 200, "X-Docker-Checksum", sum.String())
		default: // told at last
			put("json", i.json, 200)
			put("layer", i.layer, 200)
			put("checksum", nil, 400, "X-Docker-Checksum", wrong)
			put("checksum", nil, 400, "X-Docker-Checksum", wrong, "X-Docker-Checksum-Payload", "sha256:"+idOf("x"))
			put("checksum", nil, 200, "X-Docker-Checksum", wrong, "X-Docker-Checksum-Payload", i.payload())
		}
		c.do("GET", r.Addr, path+"json", nil).want(t, 200)
		// The index is told as well, and compares what it can without reading layers.
		c.do("PUT", r.Addr, "/v1/repositories/foo/sums/tags/v1", strings.NewReader(`"`+i.id+`"`)).want(t, 200)
		list := func(sum string) []byte { return []byte(`[{"id": "` + i.id + `", "checksum": "` + sum + `"}]`) }
		c.do("PUT", r.Addr, "/v1/repositories/foo/sums/images", bytes.NewReader(list("sha256:"+idOf("wrong")))).want(t, 400)
		c.do("PUT", r.Addr, "/v1/repositories/foo/sums/images", bytes.NewReader(list(i.payload()))).want(t, 204)
		c.do("PUT", r.Addr, "/v1/repositories/foo/sums/images", bytes.NewReader(list(sum.String()))).want(t, 204)
	}
}

// blobsOf are the blobs in a registry's folder.
func blobsOf(t testing.TB, root string) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	err := filepath.WalkDir(filepath.Join(root, "_longshore", "blobs"), func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			out[e.Name()] = true
		}
		return err
	})
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return out
}

// TestCollection: what no tag names goes after the grace period and not before; what a tag names stays; what is deleted goes.
func TestCollection(t *testing.T) {
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	var r *registrytest.Registry
	var c *client
	start := func() {
		r = registrytest.StartIn(t, dir, registrytest.Plain, on)
		c = newClient(t, r.Addr, "", "")
	}
	collect := func(delay time.Duration) {
		t.Helper()
		r.Stop()
		if _, err := registryboot.GC(t.Context(), r.Config, registry.GCOptions{Delay: &delay}); err != nil {
			t.Fatal(err)
		}
		start()
	}
	start()
	kept := chainOf(t, "kept")
	c.push("foo/kept", "v1", kept)
	want := len(blobsOf(t, root)) // three layers and a configuration
	loose := chainOf(t, "loose")
	s := c.begin("foo/loose", loose)
	for _, i := range loose {
		s.pushImage(i)
	}
	alone := newImage(t, "alone", nil, nil, tarOf(t, file{"alone", "without a repository", 0}))
	curl := newClient(t, r.Addr, "", "")
	curl.do("PUT", r.Addr, "/v1/images/"+alone.id+"/json", bytes.NewReader(alone.json)).want(t, 200)
	curl.do("PUT", r.Addr, "/v1/images/"+alone.id+"/layer", bytes.NewReader(alone.layer)).want(t, 200)
	more := len(blobsOf(t, root)) // one layer of loose's own, and alone's; the others are the same files
	if want != 4 || more != want+2 {
		t.Fatal(want, more)
	}
	collect(time.Hour)
	if got := len(blobsOf(t, root)); got != more {
		t.Fatalf("%d blobs are left within the grace period, of %d", got, more)
	}
	c.do("GET", r.Addr, "/v1/repositories/foo/loose/tags", nil).want(t, 404)
	collect(0)
	if got := len(blobsOf(t, root)); got != want {
		t.Fatalf("%d blobs are left, want %d", got, want)
	}
	same(t, c.pull("foo/kept", "v1"), kept)
	pullV2(t, r.Addr, "foo/kept:v1")
	c.push("foo/loose", "v1", loose) // nothing of the push before stands in the way
	c.delete("foo/kept")
	c.delete("foo/loose")
	collect(time.Hour)
	if got := len(blobsOf(t, root)); got == 0 {
		t.Fatal("deleted content has no grace period")
	}
	collect(0)
	if got := blobsOf(t, root); len(got) != 0 {
		t.Fatalf("%v are left of nothing", got)
	}
}

// TestStoresByPath: what was pushed without a repository may end in one that lies in another store.
func TestStoresByPath(t *testing.T) {
	config := `{"storage": {"rootDirectory": "DIR/root", "subPaths": {"/archive": {"rootDirectory": "DIR/archive"}}}, "http": {"port": "0"}}`
	r := registrytest.Start(t, config, on)
	c := newClient(t, r.Addr, "", "")
	chain := chainOf(t, "a")
	for _, i := range chain {
		c.do("PUT", r.Addr, "/v1/images/"+i.id+"/json", bytes.NewReader(i.json)).want(t, 200)
		c.do("PUT", r.Addr, "/v1/images/"+i.id+"/layer", unsized(i.layer)).want(t, 200)
	}
	for _, repo := range []string{"archive/deep/app", "foo/app"} {
		c.do("PUT", r.Addr, "/v1/repositories/"+repo+"/tags/v1", strings.NewReader(`"`+chain[2].id+`"`)).want(t, 200)
		same(t, c.pull(repo, "v1"), chain)
		pullV2(t, r.Addr, repo+":v1")
	}
	if n := len(blobsOf(t, filepath.Join(r.Dir, "archive"))); n != 4 {
		t.Fatalf("%d blobs in the archive", n)
	}
}

// TestAdministratorsOfLibrary: where there are administrators, only they push to library by the index.
func TestAdministratorsOfLibrary(t *testing.T) {
	config := strings.Replace(people, `"accessControl": {`, `"accessControl": {"adminPolicy": {"users": ["root"], "actions": ["read", "create", "update", "delete"]}, `, 1)
	r := registrytest.Start(t, config, on)
	chain := chainOf(t, "a")
	other := register(t, r.Addr, "jane")
	other.ask("PUT", "/v1/repositories/ubuntu/", nil).want(t, 403)
	admin := register(t, r.Addr, "root")
	// The documents' requests about library, from somebody who may.
	s := &script{client: admin}
	id, sum := idOf("1"), "b486531f9a779a0c17e3ed29dae8f12c4f9e89cc6f0bc3c38722009fe6857087"
	basic := []string{"Authorization", "BASIC"}
	ask := append(basic, "X-Docker-Token", "true")
	s.play(t,
		step{"create", "PUT", "/v1/repositories/foobar/", `[{"id": "` + id + `"}]`, ask, 200, `""`, []string{"X-Docker-Token", "signature=", "X-Docker-Endpoints", r.Addr}})
	if !strings.HasSuffix(s.token, `,repository="library/foobar",access=write`) {
		t.Fatal(s.token)
	}
	s.play(t,
		step{"authorize", "PUT", "/v1/repositories/foobar/auth", "", []string{"Authorization", "Token TOKEN"}, 200, `"OK"`, nil},
		step{"update images", "PUT", "/v1/repositories/foobar/images", `[{"id": "` + id + `", "checksum": "` + sum + `"}]`, basic, 204, "", nil},
		step{"images", "GET", "/v1/repositories/foobar/images", "", nil, 200, `[{"id": "` + id + `", "checksum": "` + sum + `"}]`, nil},
		step{"delete", "DELETE", "/v1/repositories/foobar/", `""`, ask, 202, `""`, []string{"WWW-Authenticate", "Token signature="}},
		step{"confirm", "DELETE", "/v1/repositories/foobar/", "", append(basic, "X-Docker-Endpoints", r.Addr), 200, `""`, nil},
	)
	admin.push("ubuntu", "v1", chain)
	same(t, other.pull("ubuntu", "v1"), chain)
	same(t, newClient(t, r.Addr, "", "").pull("library/ubuntu", "v1"), chain)
	var found struct {
		Results []struct {
			Name       string
			IsOfficial bool `json:"is_official"`
		}
	}
	other.do("GET", r.Addr, "/v1/search?q=ubuntu", nil).want(t, 200).decode(t, &found)
	if len(found.Results) != 1 || found.Results[0].Name != "ubuntu" || !found.Results[0].IsOfficial {
		t.Fatal(found)
	}
	other.ask("DELETE", "/v1/repositories/ubuntu/", nil).want(t, 403)
	admin.delete("ubuntu")
}

// TestPostgres: two registries on one index are one.
func TestPostgres(t *testing.T) {
	dsn := postgrestest.Start(t).Create(t, "v1")
	config := `{"storage": {"rootDirectory": "ROOT", "remoteCache": true, "cacheDriver": {"name": "postgres", "url": "` + dsn + `"}}, "http": {"port": "0"}}`
	config = strings.Replace(config, "ROOT", t.TempDir(), 1)
	one, two := registrytest.Start(t, config, on), registrytest.Start(t, config, on)
	chain := chainOf(t, "a")
	newClient(t, one.Addr, "", "").push("foo/bar", "v1", chain)
	c := newClient(t, two.Addr, "", "")
	same(t, c.pull("foo/bar", "v1"), chain)
	img := someImage(t, 2)
	pushV2(t, two.Addr, "foo/today:v1", img)
	wantLayers(t, newClient(t, one.Addr, "", "").pull("foo/today", "v1"), img)
	c.delete("foo/bar")
	newClient(t, one.Addr, "", "").ask("GET", "/v1/repositories/foo/bar/images", nil).want(t, 404)
}

// TestBucket: layers go to S3 and come from there, parts of them too.
func TestBucket(t *testing.T) {
	b := s3test.Start(t)
	r := registrytest.Start(t, fmt.Sprintf(`{"storage": {"rootDirectory": "DIR/root", "storageDriver": {
		"name": "s3", "region": %q, "regionendpoint": "http://%s", "bucket": %q, "accesskey": %q, "secretkey": %q, "forcepathstyle": true}},
		"http": {"port": "0"}}`, b.Region, b.Endpoint, b.Bucket, b.AccessKey, b.SecretKey), on)
	c := newClient(t, r.Addr, "", "")
	chain := chainOf(t, "a")
	c.push("foo/bar", "v1", chain)
	same(t, c.pull("foo/bar", "v1"), chain)
	pullV2(t, r.Addr, "foo/bar:v1")
	a := c.do("GET", r.Addr, "/v1/images/"+chain[0].id+"/layer", nil, "Range", "bytes=5-9").want(t, 206)
	if !bytes.Equal(a.body, chain[0].layer[5:10]) {
		t.Fatalf("%q", a.body)
	}
	c.do("PUT", r.Addr, "/v1/images/"+idOf("x")+"/json", strings.NewReader(`{"id": "`+idOf("x")+`"}`)).want(t, 200)
	c.do("PUT", r.Addr, "/v1/images/"+idOf("x")+"/layer", strings.NewReader("no tar, and nothing of it is left in the bucket")).want(t, 400)
}
