package registryapi

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"

	"github.com/containerd/errdefs"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"longshore/internal/core/distribution"
	"longshore/internal/service/auth"
	"longshore/internal/service/registry"
)

// base is end-1: the API is here. As in zot, a client that may come in without a name is still told how to log in.
func (s *Server) base(x *exchange) error {
	if err := s.auth.Ping(x.who); err != nil {
		return err
	}
	if x.who.Method == auth.Anonymous {
		s.challenge(x, nil)
	} else if fromUI(x.r) && x.r.Header.Get("Authorization") != "" {
		if err := s.openSession(x); err != nil {
			return err
		}
	}
	return x.json(http.StatusOK, struct{}{})
}

// json answers with a document.
func (x *exchange) json(status int, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return x.document(status, "application/json", body)
}

func (x *exchange) document(status int, contentType string, body []byte) error {
	x.header("Content-Type", contentType)
	x.header("Content-Length", strconv.Itoa(len(body)))
	x.version()
	x.WriteHeader(status)
	if x.r.Method == http.MethodHead {
		return nil
	}
	_, err := x.Write(body)
	return err
}

// page reads n and last.
func page(q url.Values) (distribution.Page, error) {
	p := distribution.Page{N: -1, Last: q.Get("last")}
	text := q.Get("n")
	if text == "" {
		return p, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return p, distribution.NewError(distribution.CodeUnsupported, errdefs.ErrInvalidArgument, "invalid number of results %q", clip(text))
	}
	p.N = n
	return p, nil
}

// tags is end-8a and end-8b.
func (s *Server) tags(x *exchange) error {
	if err := s.authorize(x, auth.Read, ""); err != nil {
		return err
	}
	p, err := page(x.r.URL.Query())
	if err != nil {
		return err
	}
	l, err := s.registry.Tags(x.r.Context(), x.repo, p)
	if err != nil {
		return err
	}
	x.next(l, p)
	body := append(make([]byte, 0, 64+24*len(l.Names)), `{"name":"`...)
	body = append(append(body, x.repo...), `","tags":`...)
	return x.document(http.StatusOK, "application/json", append(appendNames(body, l.Names), '}'))
}

// catalog is distribution's list of repositories.
func (s *Server) catalog(x *exchange) error {
	may, err := s.auth.Catalogue(x.who, s.query(x, auth.Read, ""))
	if err != nil {
		return err
	}
	p, err := page(x.r.URL.Query())
	if err != nil {
		return err
	}
	l, err := s.registry.Repositories(x.r.Context(), p, predicate(may))
	if err != nil {
		return err
	}
	x.next(l, p)
	body := append(make([]byte, 0, 32+32*len(l.Names)), `{"repositories":`...)
	return x.document(http.StatusOK, "application/json", append(appendNames(body, l.Names), '}'))
}

// appendNames writes names as a JSON list. Names of repositories and tags hold nothing that needs an escape.
func appendNames(b []byte, names []string) []byte {
	b = append(b, '[')
	for i, n := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), n...), '"')
	}
	return append(b, ']')
}

// next links to the following page (RFC 8288).
func (x *exchange) next(l registry.List, p distribution.Page) {
	if !l.More || len(l.Names) == 0 {
		return
	}
	q := url.Values{"last": {l.Names[len(l.Names)-1]}}
	if p.N >= 0 {
		q.Set("n", strconv.Itoa(p.N))
	}
	x.header("Link", "<"+x.r.URL.EscapedPath()+"?"+q.Encode()+`>; rel="next"`)
}

// referrers is end-12a and end-12b.
func (s *Server) referrers(x *exchange) error {
	r, err := s.findReferrers(x, x.r.URL.Query().Get("artifactType"))
	if err != nil {
		return err
	}
	if r.Filtered {
		x.header("Oci-Filters-Applied", "artifactType")
	}
	return x.document(http.StatusOK, ocispec.MediaTypeImageIndex, r.Payload)
}

func (s *Server) findReferrers(x *exchange, artifactType string) (registry.Referrers, error) {
	if err := s.authorize(x, auth.Read, x.ref); err != nil {
		return registry.Referrers{}, err
	}
	d, err := distribution.ParseDigest(x.ref)
	if err != nil {
		return registry.Referrers{}, err
	}
	return s.registry.Referrers(x.r.Context(), x.repo, d, artifactType)
}

// orasReferrers is the list of the ORAS artifacts specification, which zot 1 had.
func (s *Server) orasReferrers(x *exchange) error {
	artifactType := x.r.URL.Query().Get("artifactType")
	if artifactType == "" {
		return distribution.NewError(distribution.CodeUnsupported, errdefs.ErrInvalidArgument, "artifactType is missing")
	}
	r, err := s.findReferrers(x, artifactType)
	if err != nil {
		return err
	}
	list := r.Descriptors
	if list == nil {
		list = []ocispec.Descriptor{}
	}
	return x.json(http.StatusOK, map[string]any{"references": list})
}
