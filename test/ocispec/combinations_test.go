package ocispec

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"longshore/internal/boot/registryboot/registrytest"
	"longshore/internal/driver/blobs3"
	"longshore/internal/driver/blobs3/s3test"
	"longshore/internal/driver/sqlmeta/postgrestest"
)

// The tests of the sections run on a disk with SQLite. TestCombinations runs them again, in a process of their own, with
// one or both of these set.
const (
	indexVariable  = "LONGSHORE_OCISPEC_POSTGRES" // a connection string
	bucketVariable = "LONGSHORE_OCISPEC_S3"       // a blobs3.Config as JSON
)

// configured is the configuration for an empty registry on the storage that is tested.
func configured(t testing.TB) string {
	t.Helper()
	storage := map[string]any{"rootDirectory": "DIR/root"}
	name := fmt.Sprintf("t%d", time.Now().UnixNano())
	if dsn := os.Getenv(indexVariable); dsn != "" {
		admin, err := sql.Open("pgx", dsn)
		must(t, err)
		_, err = admin.Exec("CREATE SCHEMA " + name) // much quicker to make than a database
		must(t, err)
		must(t, admin.Close())
		storage["remoteCache"], storage["cacheDriver"] = true, map[string]any{"name": "postgres", "url": dsn + " search_path=" + name}
	}
	if text := os.Getenv(bucketVariable); text != "" {
		var c blobs3.Config
		must(t, json.Unmarshal([]byte(text), &c))
		storage["storageDriver"] = map[string]any{
			"name": "s3", "rootdirectory": "/" + name, "region": c.Region, "regionendpoint": c.Endpoint, "bucket": c.Bucket,
			"accesskey": c.AccessKey, "secretkey": c.SecretKey, "secure": !c.Insecure, "forcepathstyle": c.PathStyle,
		}
	}
	out, err := json.Marshal(map[string]any{"storage": storage, "http": map[string]any{"port": "0"}})
	must(t, err)
	return string(out)
}

// sections are the tests that every combination must pass.
const sections = "^(TestPulling.*|TestCheckingIf.*|TestPostThenPut|TestSinglePost|TestPushing.*|TestOtherAlgorithms|TestCancel.*|" +
	"TestMounting.*|TestIndexes.*|TestSparse.*|TestListing.*|TestReferrers.*|TestCatalogue|TestEndpoints|TestHeads.*|" +
	"TestEnabling.*|TestTagsOf.*|TestDeleting.*|TestUploadsGoOn.*|TestManyWriters|TestNames)$"

func TestCombinations(t *testing.T) {
	if os.Getenv(indexVariable)+os.Getenv(bucketVariable) != "" {
		t.Skip("runs the others")
	}
	for _, c := range []struct {
		name         string
		postgres, s3 bool
	}{{"disk and PostgreSQL", true, false}, {"S3 and SQLite", false, true}, {"S3 and PostgreSQL", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0], "-test.run", sections, "-test.count=1")
			cmd.Env = os.Environ()
			if c.postgres {
				cmd.Env = append(cmd.Env, indexVariable+"="+postgrestest.Start(t).DSN("postgres"))
			}
			if c.s3 {
				config, err := json.Marshal(s3test.Start(t))
				must(t, err)
				cmd.Env = append(cmd.Env, bucketVariable+"="+string(config))
			}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// TestRedirectToTheBucket: the bytes come from the bucket, by an address that is good for this blob only.
func TestRedirectToTheBucket(t *testing.T) {
	c := s3test.Start(t)
	r := open(t, registrytest.Start(t, fmt.Sprintf(`{"storage": {"rootDirectory": "DIR/root", "redirectBlobURL": true, "storageDriver": {
		"name": "s3", "region": %q, "regionendpoint": "http://%s/", "bucket": %q, "accesskey": %q, "secretkey": %q}}, "http": {"port": "0"}}`,
		c.Region, c.Endpoint, c.Bucket, c.AccessKey, c.SecretKey)), "team/app")
	content := random(5000)
	d := r.blob(content).Digest
	a := r.want(r.do("GET", "/blobs/"+d.String(), nil), 307)
	there := a.Header.Get("Location")
	if !strings.HasPrefix(there, "http://"+c.Endpoint) {
		t.Fatalf("location %q", there)
	}
	if a := r.Do(t, "GET", there, nil); a.StatusCode != 200 || a.Text != string(content) {
		t.Errorf("%d", a.StatusCode)
	}
	r.header(r.want(r.do("HEAD", "/blobs/"+d.String(), nil), 200), "Content-Length", "5000")
	r.want(open(t, r.Registry, "other").do("GET", "/blobs/"+d.String(), nil), 404)
}

// TestAccountsInPostgreSQL: API keys made by one instance are good at another.
func TestAccountsInPostgreSQL(t *testing.T) {
	dsn := postgrestest.Start(t).Create(t, "shared")
	config := `{"storage": {"rootDirectory": "DIR/root", "remoteCache": true, "cacheDriver": {"name": "postgres", "url": "` + dsn + `"}},
		"http": {"port": "0", "auth": {"htpasswd": {"path": "DIR/htpasswd"}, "apikey": true}}}`
	instance := func() *registrytest.Registry {
		dir := t.TempDir()
		registrytest.Passwd(t, filepath.Join(dir, "htpasswd"), "alice")
		return registrytest.StartIn(t, dir, config)
	}
	one, two := instance(), instance()
	a := one.Do(t, "POST", "/zot/auth/apikey", []byte(`{"label": "x"}`), registrytest.Basic("alice", "alice-secret"))
	var key struct{ APIKey string }
	must(t, json.Unmarshal([]byte(a.Text), &key))
	if a := two.Do(t, "GET", "/v2/_catalog", nil, registrytest.Basic("alice", key.APIKey)); a.StatusCode != 200 {
		t.Errorf("%d %s", a.StatusCode, a.Text)
	}
}
