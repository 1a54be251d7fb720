package ocispec

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	gcrrandom "github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/validate"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/memory"
	orasremote "oras.land/oras-go/v2/registry/remote"
	orasauth "oras.land/oras-go/v2/registry/remote/auth"

	"longshore/internal/boot/registryboot/registrytest"
	"longshore/internal/service/auth"
)

// variant is a way to be let in: a configuration, and the credentials of a user who may do everything.
type variant struct {
	name, config   string
	user, password string
	prepare        func(t *testing.T, dir string)
}

const withPasswords = `{"storage": {"rootDirectory": "DIR/root"}, "http": {"port": "0",
	"auth": {"htpasswd": {"path": "DIR/htpasswd"}, "apikey": true},
	"accessControl": {"repositories": {"**": {"policies": [{"users": ["alice"], "actions": ["read", "create", "update", "delete"]}]}}}}}`

func variants(t *testing.T) []variant {
	issuer := newIssuer(t)
	return []variant{
		{name: "open", config: registrytest.Plain},
		{name: "password", config: withPasswords, user: "alice", password: "alice-secret",
			prepare: func(t *testing.T, dir string) { registrytest.Passwd(t, filepath.Join(dir, "htpasswd"), "alice") }},
		{name: "bearer", user: "alice", password: "alice-secret",
			config: `{"storage": {"rootDirectory": "DIR/root"}, "http": {"port": "0", "auth": {"bearer": {
				"realm": "` + strings.Replace(issuer.server.URL, "127.0.0.1", "localhost", 1) + `/token", "service": "registry", "cert": "DIR/key.pem"}}}}`,
			prepare: func(t *testing.T, dir string) { registrytest.Write(t, filepath.Join(dir, "key.pem"), issuer.public) }},
	}
}

func eachVariant(t *testing.T, f func(t *testing.T, r *registrytest.Registry, v variant)) {
	for _, v := range variants(t) {
		t.Run(v.name, func(t *testing.T) {
			dir := t.TempDir()
			if v.prepare != nil {
				v.prepare(t, dir)
			}
			f(t, registrytest.StartIn(t, dir, v.config), v)
		})
	}
}

// issuer is a token server: it gives alice what she asks for.
type issuer struct {
	server *httptest.Server
	public string
	key    *ecdsa.PrivateKey
}

func newIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	i := &issuer{key: key, public: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}
	i.server = httptest.NewServer(http.HandlerFunc(i.token))
	t.Cleanup(i.server.Close)
	return i
}

func (i *issuer) token(w http.ResponseWriter, r *http.Request) {
	if user, password, _ := r.BasicAuth(); r.Method != "GET" || user != "alice" || password != "alice-secret" {
		http.Error(w, "no", http.StatusUnauthorized)
		return
	}
	var access []auth.Grant
	for _, text := range r.URL.Query()["scope"] {
		for one := range strings.FieldsSeq(text) {
			if g, ok := auth.ParseScope(one); ok {
				access = append(access, g)
			}
		}
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"sub": "alice", "aud": r.URL.Query().Get("service"), "exp": time.Now().Add(time.Minute).Unix(), "access": access,
	}).SignedString(i.key)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_ = json.NewEncoder(w).Encode(map[string]string{"token": token})
}

func TestGoContainerRegistry(t *testing.T) {
	eachVariant(t, func(t *testing.T, r *registrytest.Registry, v variant) {
		opts := []remote.Option{remote.WithAuth(authn.Anonymous)}
		if v.user != "" {
			opts = []remote.Option{remote.WithAuth(&authn.Basic{Username: v.user, Password: v.password})}
		}
		ref := func(s string) name.Reference {
			out, err := name.ParseReference(r.Addr+"/"+s, name.Insecure)
			must(t, err)
			return out
		}
		image, err := gcrrandom.Image(100_000, 3)
		must(t, err)
		must(t, remote.Write(ref("team/app:v1"), image, opts...))
		back, err := remote.Image(ref("team/app:v1"), opts...)
		must(t, err)
		must(t, validate.Image(back))
		index, err := gcrrandom.Index(1000, 2, 3)
		must(t, err)
		must(t, remote.WriteIndex(ref("team/index:v1"), index, opts...))
		pulled, err := remote.Index(ref("team/index:v1"), opts...)
		must(t, err)
		must(t, validate.Index(pulled))

		must(t, remote.Write(ref("team/copy:v1"), back, opts...)) // mounts
		must(t, remote.Tag(ref("team/app:v2").(name.Tag), back, opts...))
		tags, err := remote.List(ref("team/app:v1").Context(), opts...)
		must(t, err)
		if !slices.Equal(tags, []string{"v1", "v2"}) {
			t.Errorf("tags %v", tags)
		}
		desc, err := remote.Head(ref("team/app:v1"), opts...)
		must(t, err)
		signature, ok := mutate.Subject(mutate.ConfigMediaType(image, "application/x.signature"), *desc).(v1.Image)
		if !ok {
			t.Fatal("no image")
		}
		must(t, remote.Write(ref("team/app:sig"), signature, opts...))
		list, err := remote.Referrers(ref("team/app:v1").Context().Digest(desc.Digest.String()), opts...)
		must(t, err)
		if m, err := list.IndexManifest(); err != nil || len(m.Manifests) != 1 {
			t.Errorf("referrers %+v %v", m, err)
		}
		must(t, remote.Delete(ref("team/app:v2"), opts...))
		if _, err := remote.Head(ref("team/app:v2"), opts...); err == nil {
			t.Error("a deleted tag is there")
		}
		repos, err := remote.Catalog(context.Background(), ref("team/app").Context().Registry, opts...)
		must(t, err)
		if !slices.Equal(repos, []string{"team/app", "team/copy", "team/index"}) {
			t.Errorf("catalogue %v", repos)
		}
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOras(t *testing.T) {
	eachVariant(t, func(t *testing.T, r *registrytest.Registry, v variant) {
		ctx := context.Background()
		// The client takes a realm on loopback from a registry of the same name only.
		addr := strings.Replace(r.Addr, "127.0.0.1", "localhost", 1)
		repository := func(n string) *orasremote.Repository {
			repo, err := orasremote.NewRepository(addr + "/" + n)
			must(t, err)
			repo.PlainHTTP = true
			client := &orasauth.Client{Client: http.DefaultClient, Cache: orasauth.NewCache()}
			if v.user != "" {
				client.Credential = orasauth.StaticCredential(addr, orasauth.Credential{Username: v.user, Password: v.password})
			}
			repo.Client = client
			return repo
		}
		local := memory.New()
		layer := content.NewDescriptorFromBytes("text/plain", []byte("hello"))
		must(t, local.Push(ctx, layer, strings.NewReader("hello")))
		root, err := oras.PackManifest(ctx, local, oras.PackManifestVersion1_1, "application/x.thing", oras.PackManifestOptions{Layers: []ocispec.Descriptor{layer}})
		must(t, err)
		must(t, local.Tag(ctx, root, "v1"))
		repo := repository("things/one")
		_, err = oras.Copy(ctx, local, "v1", repo, "v1", oras.DefaultCopyOptions)
		must(t, err)
		_, err = oras.PackManifest(ctx, repo, oras.PackManifestVersion1_1, "application/x.note", oras.PackManifestOptions{Subject: &root})
		must(t, err)
		var found []ocispec.Descriptor
		must(t, repo.Referrers(ctx, root, "application/x.note", func(d []ocispec.Descriptor) error {
			found = append(found, d...)
			return nil
		}))
		if len(found) != 1 || found[0].ArtifactType != "application/x.note" {
			t.Errorf("referrers %+v", found)
		}
		other := repository("things/two")
		must(t, other.Mount(ctx, layer, "things/one", nil))
		back := memory.New()
		graph, err := oras.ExtendedCopy(ctx, repo, "v1", back, "v1", oras.DefaultExtendedCopyOptions)
		must(t, err)
		if graph.Digest != root.Digest {
			t.Errorf("pulled %s", graph.Digest)
		}
		must(t, repo.Delete(ctx, root))
	})
}

func TestSkopeo(t *testing.T) {
	if _, err := exec.LookPath("skopeo"); err != nil {
		t.Skip("skopeo is not installed")
	}
	eachVariant(t, func(t *testing.T, r *registrytest.Registry, v variant) {
		dir := t.TempDir()
		run := func(args ...string) string {
			t.Helper()
			cmd := exec.Command("skopeo", args...)
			cmd.Env = append(cmd.Environ(), "HOME="+dir, "XDG_RUNTIME_DIR="+dir, "REGISTRY_AUTH_FILE="+dir+"/auth.json")
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			if err := cmd.Run(); err != nil {
				t.Fatalf("skopeo %v: %v\n%s", args, err, errs.String())
			}
			return out.String()
		}
		if v.user != "" {
			run("login", "--tls-verify=false", "-u", v.user, "-p", v.password, r.Addr)
		}
		layer := filepath.Join(dir, "layer.tar")
		if out, err := exec.Command("tar", "-C", "/etc", "-cf", layer, "hostname").CombinedOutput(); err != nil {
			t.Fatal(string(out))
		}
		at := func(name string) string { return "docker://" + r.Addr + "/" + name }
		run("copy", "--insecure-policy", "--dest-tls-verify=false", "tarball:"+layer, at("s/app:v1"))
		run("copy", "--insecure-policy", "--dest-tls-verify=false", "--format=v2s2", "tarball:"+layer, at("s/app:docker"))
		run("copy", "--insecure-policy", "--src-tls-verify=false", "--dest-tls-verify=false", at("s/app:v1"), at("s/copy:v1"))
		run("copy", "--insecure-policy", "--src-tls-verify=false", at("s/copy:v1"), "oci:"+dir+"/back:v1")
		var tags struct{ Tags []string }
		must(t, json.Unmarshal([]byte(run("list-tags", "--tls-verify=false", at("s/app"))), &tags))
		if !slices.Equal(tags.Tags, []string{"docker", "v1"}) {
			t.Errorf("tags %v", tags.Tags)
		}
		run("delete", "--tls-verify=false", at("s/app:v1"))
		if out := run("inspect", "--tls-verify=false", "--raw", at("s/app:docker")); !strings.Contains(out, "docker.distribution.manifest.v2") {
			t.Errorf("not schema 2: %s", out)
		}
	})
}

// TestStrangersAreKeptOut: without credentials each variant but the open one answers with a challenge that fits.
func TestStrangersAreKeptOut(t *testing.T) {
	eachVariant(t, func(t *testing.T, r *registrytest.Registry, v variant) {
		a := r.Do(t, "POST", "/v2/team/app/blobs/uploads/", nil)
		challenge := a.Header.Get("Www-Authenticate")
		switch v.name {
		case "open":
			if a.StatusCode != 202 {
				t.Error(a.Status)
			}
		case "password":
			if a.StatusCode != 401 || challenge != `Basic realm="Authorization Required"` {
				t.Errorf("%s %s", a.Status, challenge)
			}
		case "bearer":
			want := `service="registry",scope="repository:team/app:pull,push"`
			if a.StatusCode != 401 || !strings.HasPrefix(challenge, "Bearer realm=") || !strings.HasSuffix(challenge, want) {
				t.Errorf("%s %s", a.Status, challenge)
			}
			a = r.Do(t, "GET", "/v2/_catalog", nil, registrytest.Header("Authorization", "Bearer x.y.z"))
			if want := `scope="registry:catalog:*",error="invalid_token"`; a.StatusCode != 401 || !strings.HasSuffix(a.Header.Get("Www-Authenticate"), want) {
				t.Errorf("%s %s", a.Status, a.Header.Get("Www-Authenticate"))
			}
		}
		if v.name != "open" {
			if a := r.Do(t, "GET", "/v2/", nil, registrytest.Basic("alice", "wrong")); a.StatusCode != 401 {
				t.Error(a.Status)
			}
		}
	})
}
