package registryapi

import (
	"net/http"
	"strings"

	"longshore/internal/core/distribution"
)

// op is what a path stands for, whatever the method.
type op int

const (
	opNone op = iota
	opBase
	opCatalog
	opTags
	opManifest
	opBlob
	opUploads
	opUpload
	opReferrers
	opOrasReferrers
	opDiscover
	opMgmt
	opPprof
	opAPIKey
	opLogin
	opLogout
	opMetrics
	opDocs
	opHealth
	opCount
)

// target is a path taken apart. Names and references are not checked yet.
type target struct {
	op   op
	name string
	ref  string
}

// route takes a decoded path apart; false when it stands for nothing. It does not allocate.
func (t *target) route(path, metricsPath string) bool {
	if rest, ok := strings.CutPrefix(path, "/v2/"); ok {
		if rest != "" && rest[0] == '_' && t.routeExtension(rest) {
			return true
		}
		return t.routeDistribution(rest)
	}
	if metricsPath != "" && path == metricsPath {
		t.op = opMetrics
		return true
	}
	switch path {
	case "/v2":
		t.op = opBase
	case "/livez", "/readyz", "/startupz":
		t.op, t.ref = opHealth, path[1:]
	case "/zot/auth/apikey":
		t.op = opAPIKey
	case "/zot/auth/login":
		t.op = opLogin
	case "/zot/auth/logout":
		t.op = opLogout
	default:
		return t.routeMore(path)
	}
	return true
}

func (t *target) routeMore(path string) bool {
	if rest, ok := strings.CutPrefix(path, "/swagger/v2/"); ok {
		t.op, t.ref = opDocs, rest
		return true
	}
	if rest, ok := strings.CutPrefix(path, "/oras/artifacts/v1/"); ok {
		rest, ok = strings.CutSuffix(rest, "/referrers")
		head, ref, found := cutLast(rest, "/")
		name, isManifest := strings.CutSuffix(head, "/manifests")
		if ok && found && isManifest {
			t.op, t.name, t.ref = opOrasReferrers, name, ref
			return true
		}
	}
	return false
}

func (t *target) routeExtension(rest string) bool {
	switch strings.TrimSuffix(rest, "/") {
	case "_catalog":
		t.op = opCatalog
	case "_oci/ext/discover":
		t.op = opDiscover
	case "_zot/ext/mgmt":
		t.op = opMgmt
	case "_zot/pprof":
		t.op = opPprof
	default:
		name, ok := strings.CutPrefix(rest, "_zot/pprof/")
		t.op, t.ref = opPprof, name
		return ok
	}
	return true
}

// routeDistribution reads from the end: a name may hold any word that the API uses.
func (t *target) routeDistribution(rest string) bool {
	if rest == "" {
		t.op = opBase
		return true
	}
	head, last, _ := cutLast(rest, "/")
	parent, kind, _ := cutLast(head, "/")
	t.name, t.ref = parent, last
	switch {
	case kind == "manifests":
		t.op = opManifest
	case kind == "uploads" && strings.HasSuffix(parent, "/blobs"):
		t.name, t.op = strings.TrimSuffix(parent, "/blobs"), opUpload
		if last == "" {
			t.op = opUploads
		}
	case kind == "blobs" && last == "uploads":
		t.op = opUploads
	case kind == "blobs":
		t.op = opBlob
	case kind == "referrers":
		t.op = opReferrers
	case kind == "tags" && last == "list":
		t.op = opTags
	default:
		return false
	}
	return t.name != "" && (t.ref != "" || t.op == opUploads)
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return "", s, false
}

// handler answers an exchange, or returns what is to be told instead.
type handler func(*Server, *exchange) error

// operation is what can be done with a kind of path.
type operation struct {
	get, head, put, post, patch, delete handler
	// open says that nobody needs a name and that no limit counts: the probes.
	open bool
}

// operations is the whole API. HEAD is GET without the body where nothing else is said.
var operations = [opCount]operation{
	opBase:          {get: (*Server).base},
	opCatalog:       {get: (*Server).catalog},
	opTags:          {get: named((*Server).tags)},
	opManifest:      {get: named((*Server).getManifest), put: named((*Server).putManifest), delete: named((*Server).deleteManifest)},
	opBlob:          {get: named((*Server).getBlob), head: named((*Server).headBlob), delete: named((*Server).deleteBlob)},
	opUploads:       {post: named((*Server).startUpload)},
	opUpload:        {get: named((*Server).uploadStatus), patch: named((*Server).appendUpload), put: named((*Server).finishUpload), delete: named((*Server).cancelUpload)},
	opReferrers:     {get: named((*Server).referrers)},
	opOrasReferrers: {get: named((*Server).orasReferrers)},
	opDiscover:      {get: (*Server).discover},
	opMgmt:          {get: (*Server).mgmt},
	opPprof:         {get: (*Server).pprof, post: (*Server).pprof},
	opAPIKey:        {get: (*Server).listKeys, post: (*Server).createKey, delete: (*Server).deleteKey},
	opLogin:         {get: (*Server).loginPage, post: (*Server).login},
	opLogout:        {post: (*Server).logout},
	opMetrics:       {get: (*Server).serveMetrics},
	opDocs:          {get: (*Server).docs},
	opHealth:        {get: (*Server).health, open: true},
}

func (o *operation) handler(method string) handler {
	switch method {
	case http.MethodGet:
		return o.get
	case http.MethodHead:
		if o.head != nil {
			return o.head
		}
		return o.get
	case http.MethodPut:
		return o.put
	case http.MethodPost:
		return o.post
	case http.MethodPatch:
		return o.patch
	case http.MethodDelete:
		return o.delete
	}
	return nil
}

// methods lists what an operation takes, for Allow.
func (o *operation) methods() string {
	var out []string
	for _, m := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"} {
		if o.handler(m) != nil {
			out = append(out, m)
		}
	}
	return strings.Join(out, ", ")
}

// named checks the repository's name before the handler.
func named(h handler) handler {
	return func(s *Server, x *exchange) error {
		repo, err := distribution.ParseRepoName(x.name)
		if err != nil {
			return err
		}
		x.repo = repo
		return h(s, x)
	}
}
