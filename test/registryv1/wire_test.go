package registryv1

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"longshore/internal/boot/registryboot/registrytest"
)

// people lets everybody register; everybody reads public/**, its users write foo/** and library's administrators library.
const people = `{"storage": {"rootDirectory": "DIR/root"}, "http": {"port": "0", "auth": {"accounts": {"registration": true}},
	"accessControl": {"repositories": {
		"**": {"policies": [{"users": ["foobar"], "actions": ["read", "create", "update", "delete"]}]},
		"library/**": {"anonymousPolicy": ["read"], "defaultPolicy": ["read", "create", "update", "delete"]},
		"public/**": {"anonymousPolicy": ["read"], "defaultPolicy": ["read"], "policies": [{"users": ["foobar"], "actions": ["read", "create"]}]},
		"shared/**": {"defaultPolicy": ["read", "create"]}}}}}`

// step is a request of a document with the answer that it promises.
type step struct {
	what         string
	method, path string
	body         string
	// header lists the request's; TOKEN stands for the one that the index gave last, BASIC for the user's name and password.
	header []string
	status int
	// answer is the body, as JSON; "*" is any, "" none.
	answer string
	// has lists headers of the answer; "*" is any value.
	has []string
}

// script plays steps one after another.
type script struct {
	*client
	token string
}

func (s *script) play(t *testing.T, steps ...step) {
	t.Helper()
	for _, st := range steps {
		header := append([]string{"Accept", "application/json"}, st.header...)
		for n := range header {
			header[n] = strings.ReplaceAll(header[n], "TOKEN", s.token)
			header[n] = strings.ReplaceAll(header[n], "BASIC", s.basic()[1])
		}
		a := s.do(st.method, s.index, st.path, bytes.NewReader([]byte(st.body)), header...)
		if a.StatusCode != st.status {
			t.Fatalf("%s: %s %s: %s, want %d\n%s", st.what, st.method, st.path, a.Status, st.status, a.body)
		}
		s.check(t, st, a)
		if token := a.Header.Get("X-Docker-Token"); token != "" {
			s.token = token
		}
	}
}

func (s *script) check(t *testing.T, st step, a answer) {
	t.Helper()
	if a.Header.Get("Vary") != "Accept" || a.Header.Get("X-Docker-Registry-Version") == "" {
		t.Errorf("%s: headers %v", st.what, a.Header)
	}
	for n := 0; n < len(st.has); n += 2 {
		got := a.Header.Get(st.has[n])
		if got == "" || st.has[n+1] != "*" && !strings.HasPrefix(got, st.has[n+1]) {
			t.Errorf("%s: %s is %q, want %s", st.what, st.has[n], got, st.has[n+1])
		}
	}
	switch st.answer {
	case "*":
	case "":
		if len(a.body) != 0 {
			t.Errorf("%s: answered %q", st.what, a.body)
		}
	default:
		if ct := a.Header.Get("Content-Type"); ct != "application/json" {
			t.Errorf("%s: Content-Type %q", st.what, ct)
		}
		if canonical(a.body) != canonical([]byte(st.answer)) {
			t.Errorf("%s: answered %s, want %s", st.what, a.body, st.answer)
		}
	}
}

func canonical(b []byte) string {
	var v any
	if json.Unmarshal(b, &v) != nil {
		return "no JSON: " + string(b)
	}
	out, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(out)
}

// TestRegistryDocument replays registry_api: every request, every promised status.
func TestRegistryDocument(t *testing.T) {
	r := registrytest.Start(t, registrytest.Plain, on)
	s := &script{client: newClient(t, r.Addr, "", "")}
	chain := chainOf(t, "a")
	base, top := chain[0], chain[1]
	ok, session := `""`, []string{"Authorization", "Token TOKEN"}
	s.play(t,
		step{"ping", "GET", "/v1/_ping", "", nil, 200, `""`, []string{"X-Docker-Registry-Version", "*", "X-Docker-Registry-Standalone", "True"}},
		step{"ping, as the reference has it too", "GET", "/_ping", "", nil, 200, `""`, nil},
		step{"the index's part", "PUT", "/v1/repositories/reynholm/help-system-server/", `[]`, []string{"X-Docker-Token", "true"}, 200, ok, []string{"X-Docker-Token", "signature="}},
		step{"get layer of nothing", "GET", "/v1/images/" + base.id + "/layer", "", session, 404, `{"error": "Image not found"}`, []string{"Set-Cookie", "session="}},
		step{"get image of nothing", "GET", "/v1/images/" + base.id + "/json", "", nil, 404, "*", nil},
		step{"get ancestry of nothing", "GET", "/v1/images/" + base.id + "/ancestry", "", nil, 404, "*", nil},
		step{"put layer before its document", "PUT", "/v1/images/" + base.id + "/layer", string(base.layer), nil, 404, `{"error": "Image not found"}`, nil},
		step{"put a child before its parent", "PUT", "/v1/images/" + top.id + "/json", string(top.json), nil, 400, `{"error": "Image depends on a non existing parent"}`, nil},
		step{"put image", "PUT", "/v1/images/" + base.id + "/json", string(base.json), nil, 200, ok, nil},
		step{"an image in progress", "GET", "/v1/images/" + base.id + "/json", "", nil, 409, `{"error": "Image is being uploaded, retry later"}`, nil},
		step{"its ancestry", "GET", "/v1/images/" + base.id + "/ancestry", "", nil, 409, "*", nil},
		step{"put image again", "PUT", "/v1/images/" + base.id + "/json", string(base.json), nil, 200, ok, nil},
		step{"checksum before the layer", "PUT", "/v1/images/" + base.id + "/checksum", "", []string{"X-Docker-Checksum-Payload", base.payload()}, 409, "*", nil},
		step{"put layer", "PUT", "/v1/images/" + base.id + "/layer", string(base.layer), nil, 200, ok, nil},
		step{"its layer in progress", "GET", "/v1/images/" + base.id + "/layer", "", nil, 409, "*", nil},
		step{"no checksum", "PUT", "/v1/images/" + base.id + "/checksum", "", nil, 412, "*", nil},
		step{"another checksum", "PUT", "/v1/images/" + base.id + "/checksum", "", []string{"X-Docker-Checksum-Payload", top.payload()}, 400, "*", nil},
		step{"checksum", "PUT", "/v1/images/" + base.id + "/checksum", "", []string{"X-Docker-Checksum-Payload", base.payload()}, 200, ok, nil},
		step{"checksum again", "PUT", "/v1/images/" + base.id + "/checksum", "", []string{"X-Docker-Checksum-Payload", base.payload()}, 409, "*", nil},
		step{"put image that is there", "PUT", "/v1/images/" + base.id + "/json", string(base.json), nil, 409, `{"error": "Image already exists"}`, nil},
		step{"put layer that is there", "PUT", "/v1/images/" + base.id + "/layer", string(base.layer), nil, 409, `{"error": "Image already exists"}`, nil},
		step{"get image", "GET", "/v1/images/" + base.id + "/json", "", nil, 200, string(base.json), []string{"X-Docker-Size", "*", "X-Docker-Checksum", strings.TrimPrefix(base.payload(), "sha256:"), "Cache-Control", "private, max-age=31536000"}},
		step{"get layer", "GET", "/v1/images/" + base.id + "/layer", "", nil, 200, "*", []string{"Accept-Ranges", "bytes", "Content-Type", "application/octet-stream"}},
		step{"get image as 0.6 did", "GET", "/v1/private_images/" + base.id + "/json", "", nil, 200, string(base.json), nil},
		step{"get layer as 0.6 did", "GET", "/v1/private_images/" + base.id + "/layer", "", nil, 200, "*", nil},
		step{"put image as nobody did", "PUT", "/v1/private_images/" + base.id + "/json", string(base.json), nil, 405, "*", nil},
		step{"put a child with its checksum", "PUT", "/v1/images/" + top.id + "/json", string(top.json), []string{"X-Docker-Checksum", top.payload()}, 200, ok, nil},
		step{"another layer", "PUT", "/v1/images/" + top.id + "/layer", string(base.layer), nil, 400, `{"error": "Checksum mismatch, ignoring the layer"}`, nil},
		step{"its layer", "PUT", "/v1/images/" + top.id + "/layer", string(top.layer), nil, 200, ok, nil},
		step{"get ancestry", "GET", "/v1/images/" + top.id + "/ancestry", "", nil, 200, `["` + top.id + `", "` + base.id + `"]`, nil},
		step{"put ancestry", "PUT", "/v1/images/" + top.id + "/ancestry", `["` + top.id + `", "` + base.id + `"]`, nil, 200, ok, nil},
		step{"put another ancestry", "PUT", "/v1/images/" + top.id + "/ancestry", `["` + base.id + `"]`, nil, 400, "*", nil},
		step{"files", "GET", "/v1/images/" + base.id + "/files", "", nil, 200, `[["/bin","d",false,0,1400000000,493,0,0],["/bin/hello","f",false,21,1400000000,493,0,0],["/etc/old","f",false,3,1400000000,493,0,0]]`, nil},
		step{"tags of nothing", "GET", "/v1/repositories/reynholm/help-system-server/tags", "", nil, 404, `{"error": "Repository not found"}`, nil},
		step{"put tag without data", "PUT", "/v1/repositories/reynholm/help-system-server/tags/latest", "", nil, 400, `{"error": "Invalid data"}`, nil},
		step{"put tag of another type", "PUT", "/v1/repositories/reynholm/help-system-server/tags/latest", "{}", nil, 400, "*", nil},
		step{"put tag of an unknown image", "PUT", "/v1/repositories/reynholm/help-system-server/tags/latest", `"` + idOf("unknown") + `"`, nil, 404, `{"error": "Image not found"}`, nil},
		step{"put a bad tag", "PUT", "/v1/repositories/reynholm/help-system-server/tags/la%20test", `"` + top.id + `"`, nil, 400, "*", nil},
		step{"put tag", "PUT", "/v1/repositories/reynholm/help-system-server/tags/latest", `"` + top.id + `"`, nil, 200, ok, nil},
		step{"put another tag", "PUT", "/v1/repositories/reynholm/help-system-server/tags/0.1.1", `"` + base.id + `"`, nil, 200, ok, nil},
		step{"list tags", "GET", "/v1/repositories/reynholm/help-system-server/tags", "", nil, 200, `{"latest": "` + top.id + `", "0.1.1": "` + base.id + `"}`, nil},
		step{"get tag", "GET", "/v1/repositories/reynholm/help-system-server/tags/latest", "", nil, 200, `"` + top.id + `"`, nil},
		step{"get no tag", "GET", "/v1/repositories/reynholm/help-system-server/tags/none", "", nil, 404, `{"error": "Tag not found"}`, nil},
		step{"search", "GET", "/v1/search?q=Help&page=1&n=25", "", nil, 200, `{"num_pages": 1, "num_results": 1, "results": [{"name": "reynholm/help-system-server", "description": "", "star_count": 0, "is_official": false, "is_trusted": false, "is_automated": false}], "page_size": 25, "query": "Help", "page": 1}`, nil},
		step{"summary", "GET", "/v1/repositories/reynholm/help-system-server/json", "", nil, 200, "*", nil},
		step{"summary of a tag", "GET", "/v1/repositories/reynholm/help-system-server/tags/latest/json", "", nil, 200, "*", nil},
		step{"properties", "GET", "/v1/repositories/reynholm/help-system-server/properties", "", nil, 200, `{"access": "public"}`, nil},
		step{"put properties", "PUT", "/v1/repositories/reynholm/help-system-server/properties", `{"access": "private"}`, nil, 200, ok, nil},
		step{"properties now", "GET", "/v1/repositories/reynholm/help-system-server/properties", "", nil, 200, `{"access": "private"}`, nil},
		step{"put no properties", "PUT", "/v1/repositories/reynholm/help-system-server/properties", `{"access": "x"}`, nil, 400, "*", nil},
		step{"the index's deletion", "DELETE", "/v1/repositories/reynholm/help-system-server/", "", []string{"X-Docker-Token", "true"}, 202, ok, nil},
		step{"delete tag", "DELETE", "/v1/repositories/reynholm/help-system-server/tags/0.1.1", "", session, 200, ok, nil},
		step{"delete tag again", "DELETE", "/v1/repositories/reynholm/help-system-server/tags/0.1.1", "", nil, 404, `{"error": "Tag not found"}`, nil},
		step{"delete repository", "DELETE", "/v1/repositories/reynholm/help-system-server/", `""`, nil, 200, ok, nil},
		step{"delete repository again", "DELETE", "/v1/repositories/reynholm/help-system-server/", "", nil, 404, `{"error": "Repository not found"}`, nil},
		step{"a method that is none", "POST", "/v1/images/" + base.id + "/json", "", nil, 405, "*", []string{"Allow", "GET, PUT"}},
		step{"a path that is none", "GET", "/v1/nothing", "", nil, 404, "*", nil},
		step{"an id that is none", "GET", "/v1/images/98765432/json", "", nil, 400, `{"error": "Invalid image ID"}`, nil},
	)
}

// TestDiff: what a layer does to the files below.
func TestDiff(t *testing.T) {
	r := registrytest.Start(t, registrytest.Plain, on)
	c := newClient(t, r.Addr, "", "")
	chain := chainOf(t, "a")
	c.push("foo/bar", "v1", chain)
	var d struct{ Deleted, Changed, Created map[string][]any }
	c.do("GET", r.Addr, "/v1/images/"+chain[2].id+"/diff", nil).want(t, 200).decode(t, &d)
	if len(d.Deleted) != 1 || d.Deleted["/etc/old"] == nil || len(d.Changed) != 1 || d.Changed["/bin/hello"] == nil || len(d.Created) != 1 || d.Created["/etc/new"] == nil {
		t.Fatalf("%+v", d)
	}
	if a := c.do("GET", r.Addr, "/v1/images/"+chain[1].id+"/files", nil).want(t, 200); strings.TrimSpace(string(a.body)) != "[]" {
		t.Fatalf("%s", a.body)
	}
}

// TestRange: parts of a layer, and what clients have already.
func TestRange(t *testing.T) {
	r := registrytest.Start(t, registrytest.Plain, on)
	c := newClient(t, r.Addr, "", "")
	chain := chainOf(t, "a")
	c.push("foo/bar", "v1", chain)
	path := "/v1/images/" + chain[0].id + "/layer"
	layer := chain[0].layer
	if a := c.do("GET", r.Addr, path, nil, "Range", "bytes=10-19").want(t, 206); !bytes.Equal(a.body, layer[10:20]) {
		t.Fatalf("%q", a.body)
	}
	if a := c.do("GET", r.Addr, path, nil, "Range", "bytes=10-").want(t, 206); !bytes.Equal(a.body, layer[10:]) {
		t.Fatalf("%q", a.body)
	}
	c.do("GET", r.Addr, path, nil, "Range", "bytes=100000-").want(t, 416)
	if a := c.do("HEAD", r.Addr, path, nil).want(t, 200); a.ContentLength != int64(len(layer)) || len(a.body) != 0 {
		t.Fatal(a.ContentLength)
	}
	c.do("GET", r.Addr, path, nil, "If-Modified-Since", "Thu, 01 Jan 1970 00:00:00 GMT").want(t, 304)
	a := c.do("GET", r.Addr, path, nil).want(t, 200)
	c.do("GET", r.Addr, path, nil, "If-None-Match", a.Header.Get("Etag")).want(t, 304)
	c.do("GET", r.Addr, "/v1/images/"+chain[0].id+"/json", nil, "If-Modified-Since", "Thu, 01 Jan 2015 00:00:00 GMT").want(t, 304)
}

// TestIndexDocument replays index_api and docker-io_api: people, repositories, images, authorization, search.
func TestIndexDocument(t *testing.T) {
	r := registrytest.Start(t, people, on)
	s := &script{client: newClient(t, r.Addr, "foobar", "toto42")}
	basic := []string{"Authorization", "BASIC"}
	ask := append(basic, "X-Docker-Token", "true")
	id, id2 := idOf("1"), idOf("2")
	sum := "b486531f9a779a0c17e3ed29dae8f12c4f9e89cc6f0bc3c38722009fe6857087"
	token := []string{"Authorization", "Token TOKEN"}
	given := func(repo, access string) []string {
		return []string{"WWW-Authenticate", "Token signature=", "X-Docker-Token", "signature=", "X-Docker-Endpoints", r.Addr, "X-Docker-Registry-Version", "*"}
	}
	sam := `{"email": "sam@docker.com", "password": "toto42", "username": "foobar"}`
	s.play(t,
		step{"ping", "GET", "/v1/_ping", "", nil, 200, `""`, []string{"X-Docker-Registry-Standalone", "False"}},
		step{"login before", "GET", "/v1/users/", "", basic, 401, "*", []string{"WWW-Authenticate", `Basic realm="auth required",Token`}},
		step{"register", "POST", "/v1/users/", sam, nil, 201, `"User Created"`, nil},
		step{"register again", "POST", "/v1/users", sam, nil, 400, `"Username or email already exists"`, nil},
		step{"register without JSON", "POST", "/v1/users/", "{", nil, 400, `"Invalid JSON"`, nil},
		step{"register without a field", "POST", "/v1/users/", `{"username": "foobaz", "password": "toto42"}`, nil, 400, `"missing field: email"`, nil},
		step{"register a short name", "POST", "/v1/users/", `{"email": "a@b.co", "password": "toto42", "username": "foo"}`, nil, 400, "*", nil},
		step{"register a wrong name", "POST", "/v1/users/", `{"email": "a@b.co", "password": "toto42", "username": "Foo-Bar"}`, nil, 400, "*", nil},
		step{"register a short password", "POST", "/v1/users/", `{"email": "a@b.co", "password": "toto", "username": "foobaz"}`, nil, 400, "*", nil},
		step{"register no address", "POST", "/v1/users/", `{"email": "nobody", "password": "toto42", "username": "foobaz"}`, nil, 400, "*", nil},
		step{"login", "GET", "/v1/users/", "", basic, 200, `"OK"`, nil},
		step{"login without a slash", "GET", "/v1/users", "", basic, 200, `"OK"`, nil},
		step{"login without a name", "GET", "/v1/users/", "", nil, 401, "*", nil},
		step{"another", "POST", "/v1/users/", `{"email": "jane@docker.com", "password": "secret", "username": "jane"}`, nil, 201, "*", nil},
		step{"update another", "PUT", "/v1/users/jane/", `{"password": "toto43"}`, basic, 403, "*", nil},
		step{"update", "PUT", "/v1/users/foobar/", `{"email": "sam2@docker.com", "password": "toto43"}`, basic, 204, "", nil},
		step{"the old password", "GET", "/v1/users/", "", basic, 401, "*", nil},
	)
	s.password = "toto43"
	s.play(t,
		step{"update with nobody's name", "PUT", "/v1/users/foobar/", `{"password": "toto44"}`, nil, 401, "*", nil},
		step{"update with a short password", "PUT", "/v1/users/foobar/", `{"password": "x"}`, basic, 400, "*", nil},
		step{"update with another's address", "PUT", "/v1/users/foobar/", `{"email": "jane@docker.com"}`, basic, 400, "*", nil},

		step{"create without a name", "PUT", "/v1/repositories/foo/bar/", `[]`, nil, 401, "*", []string{"WWW-Authenticate", "Basic"}},
		step{"create without JSON", "PUT", "/v1/repositories/foo/bar/", `{`, ask, 400, "*", nil},
		step{"create with a wrong image", "PUT", "/v1/repositories/foo/bar/", `[{"id": "1"}]`, ask, 400, "*", nil},
		step{"create with a wrong name", "PUT", "/v1/repositories/foo/B%20AR/", `[]`, ask, 400, "*", nil},
		step{"images before", "GET", "/v1/repositories/foo/bar/images", "", basic, 404, "*", nil},
		step{"create", "PUT", "/v1/repositories/foo/bar/", `[{"id": "` + id + `"}]`, ask, 200, `""`, given("foo/bar", "write")},
		step{"authorize", "PUT", "/v1/repositories/foo/bar/auth", "", token, 200, `"OK"`, nil},
		step{"authorize again", "PUT", "/v1/repositories/foo/bar/auth", "", token, 403, "*", nil},
		step{"authorize without a token", "PUT", "/v1/repositories/foo/bar/auth", "", basic, 403, "*", nil},
		step{"update images", "PUT", "/v1/repositories/foo/bar/images", `[{"id": "` + id + `", "checksum": "` + sum + `"}]`, basic, 204, "", nil},
		step{"update images without a name", "PUT", "/v1/repositories/foo/bar/images", `[]`, nil, 401, "*", nil},
		step{"more images", "PUT", "/v1/repositories/foo/bar/images", `[{"id": "` + id2 + `", "checksum": "x"}]`, basic, 204, "", nil},
		step{"images without JSON", "PUT", "/v1/repositories/foo/bar/images", `[{"id": 1}]`, basic, 400, "*", nil},
		step{"images", "GET", "/v1/repositories/foo/bar/images", "", ask, 200, `[{"id": "` + id + `", "checksum": "` + sum + `"}, {"id": "` + id2 + `", "checksum": "x"}]`, given("foo/bar", "read")},
		step{"images for a registry", "GET", "/v1/repositories/foo/bar/images", "", token, 200, "*", nil},
		step{"images for a registry again", "GET", "/v1/repositories/foo/bar/images", "", token, 401, "*", nil},
		step{"forget images", "DELETE", "/v1/repositories/foo/bar/images", "", basic, 204, "", nil},
		step{"images now", "GET", "/v1/repositories/foo/bar/images", "", basic, 200, "[]", nil},
		step{"delete", "DELETE", "/v1/repositories/foo/bar/", `""`, ask, 202, `""`, given("foo/bar", "delete")},
		step{"images of what is marked", "GET", "/v1/repositories/foo/bar/images", "", basic, 404, "*", nil},
		step{"confirm", "DELETE", "/v1/repositories/foo/bar/", `""`, append(basic, "X-Docker-Endpoints", r.Addr), 200, `""`, nil},
		step{"delete nothing", "DELETE", "/v1/repositories/foo/bar/", `""`, ask, 404, "*", nil},

		step{"create in library", "PUT", "/v1/repositories/foobar/", `[{"id": "` + id + `"}]`, ask, 403, "*", nil},
		step{"images in library", "PUT", "/v1/repositories/foobar/images", `[]`, basic, 403, "*", nil},
		step{"delete in library", "DELETE", "/v1/repositories/foobar/", "", ask, 403, "*", nil},
		step{"authorize in library", "PUT", "/v1/repositories/foobar/auth", "", token, 403, "*", nil},
		step{"nothing in library", "GET", "/v1/repositories/foobar/images", "", basic, 404, "*", nil},
		step{"search", "GET", "/v1/search?q=search_term", "", nil, 200, `{"query": "search_term", "num_results": 0, "results": [], "num_pages": 0, "page_size": 25, "page": 1}`, nil},
		step{"a method that is none", "POST", "/v1/search", "", nil, 405, "*", []string{"Allow", "GET"}},
	)
}
