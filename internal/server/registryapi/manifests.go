package registryapi

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"

	"longshore/internal/core/distribution"
	"longshore/internal/service/auth"
	"longshore/internal/service/registry"
)

// wanted reads the reference of a manifest that should be there. What can be no tag is not there (the specification's
// own tests ask for ".INVALID_MANIFEST_NAME" and expect 404); what looks like a digest and is none is 400.
func (x *exchange) wanted() (distribution.Reference, error) {
	ref, err := distribution.ParseReference(x.ref)
	if err != nil && !strings.Contains(x.ref, ":") {
		return ref, &distribution.Error{Code: distribution.CodeManifestUnknown, Class: errdefs.ErrNotFound,
			Message: "manifest unknown to registry", Detail: map[string]string{"reference": clip(x.ref)}}
	}
	return ref, err
}

// getManifest is end-3, GET and HEAD.
func (s *Server) getManifest(x *exchange) error {
	if err := s.authorize(x, auth.Read, x.ref); err != nil {
		return err
	}
	ref, err := x.wanted()
	if err != nil {
		return err
	}
	get := x.r.Method == http.MethodGet
	m, err := s.registry.Manifest(x.r.Context(), x.repo, ref, registry.ManifestOptions{Accept: accept(x.r.Header["Accept"]), Pull: get})
	if err != nil {
		return err
	}
	d := m.Digest.String()
	etag := `"` + d + `"`
	h := x.Header()
	h["Docker-Content-Digest"] = []string{d}
	h["Etag"] = []string{etag}
	x.version()
	s.warn(x)
	if matches(x.r.Header["If-None-Match"], etag) {
		x.WriteHeader(http.StatusNotModified)
		return nil
	}
	h["Content-Type"] = []string{m.MediaType}
	h["Content-Length"] = []string{strconv.Itoa(len(m.Payload))}
	x.WriteHeader(http.StatusOK)
	if !get {
		return nil
	}
	s.downloaded(x)
	_, err = x.Write(m.Payload)
	return err
}

// accept lists the media types of Accept headers without parameters; nil is anything.
func accept(values []string) []string {
	var out []string
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			t, params, _ := strings.Cut(part, ";")
			t = strings.TrimSpace(t)
			switch {
			case t == "*/*" || t == "application/*":
				return nil
			case t != "" && strings.TrimSpace(params) != "q=0":
				out = append(out, t)
			}
		}
	}
	return out
}

// matches says whether an If-None-Match header names the tag (RFC 9110, section 13.1.2: weak comparison).
func matches(values []string, etag string) bool {
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			part = strings.TrimPrefix(strings.TrimSpace(part), "W/")
			if part == etag || part == "*" {
				return true
			}
		}
	}
	return false
}

// maxTags is how many ?tag= one push may bring; more is 414.
const maxTags = 100

// putManifest is end-7a and end-7b.
func (s *Server) putManifest(x *exchange) error {
	ref, err := distribution.ParseReference(x.ref)
	if err != nil {
		return err
	}
	tags, err := extraTags(x.r.URL.Query(), ref)
	if err != nil {
		return err
	}
	if err := s.mayPut(x, ref, tags); err != nil {
		return err
	}
	if x.r.ContentLength > registry.MaxManifest {
		return distribution.NewError(distribution.CodeManifestInvalid, distribution.ErrTooLarge,
			"the manifest is larger than %d bytes", registry.MaxManifest)
	}
	out, err := s.registry.PutManifest(x.r.Context(), registry.ManifestPut{
		Repo: x.repo, Reference: ref, Tags: tags, MediaType: x.r.Header.Get("Content-Type"),
		Size: x.r.ContentLength, Body: x.body(),
	})
	if err != nil {
		return err
	}
	h := x.Header()
	if x.r.Header.Get("Content-Type") == "" {
		h.Add("Warning", `299 - "the manifest was pushed without a Content-Type"`)
	}
	if out.Subject != "" {
		h["Oci-Subject"] = []string{out.Subject.String()}
	}
	for _, t := range out.Tags {
		h["Oci-Tag"] = append(h["Oci-Tag"], string(t))
	}
	s.uploaded(x)
	x.created("/manifests/"+ref.String(), out.Digest)
	return nil
}

// created answers 201 with the place of what is there now.
func (x *exchange) created(path string, d digest.Digest) {
	x.header("Location", "/v2/"+string(x.repo)+path)
	x.header("Docker-Content-Digest", d.String())
	x.header("Content-Length", "0")
	x.version()
	x.WriteHeader(http.StatusCreated)
}

// extraTags reads the tag parameters, which only a push by digest may have.
func extraTags(q url.Values, ref distribution.Reference) ([]distribution.Tag, error) {
	names := q["tag"]
	if len(names) == 0 {
		return nil, nil
	}
	if ref.Digest == "" {
		return nil, distribution.ManifestInvalid("tags can only be added to a push by digest")
	}
	if len(names) > maxTags {
		return nil, distribution.NewError(distribution.CodeManifestInvalid, errTooManyTags, "more than %d tags", maxTags)
	}
	var out []distribution.Tag
	for _, name := range names {
		t, err := distribution.ParseTag(name)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(out, t) {
			out = append(out, t)
		}
	}
	return out, nil
}

// errTooManyTags is the class of 414.
var errTooManyTags error = statusClass(http.StatusRequestURITooLong)

type statusClass int

func (c statusClass) Error() string { return strings.ToLower(http.StatusText(int(c))) }

// HTTPStatus is read by server/httperr.
func (c statusClass) HTTPStatus() int { return int(c) }

// mayPut asks for create, or for update where a tag is there already.
func (s *Server) mayPut(x *exchange, ref distribution.Reference, tags []distribution.Tag) error {
	if ref.Tag != "" {
		return s.mayTag(x, ref.Tag)
	}
	if err := s.authorize(x, auth.Create, x.ref); err != nil {
		return err
	}
	for _, t := range tags {
		if err := s.mayTag(x, t); err != nil {
			return err
		}
	}
	return nil
}

// mayTag: as in zot, "latest" is meant to move and needs create only.
func (s *Server) mayTag(x *exchange, t distribution.Tag) error {
	action := auth.Create
	if t != "latest" && s.auth.TellsUpdate(x.who) {
		_, err := s.registry.Manifest(x.r.Context(), x.repo, distribution.Reference{Tag: t}, registry.ManifestOptions{})
		if err == nil {
			action = auth.Update
		} else if !errors.Is(err, errdefs.ErrNotFound) {
			return err
		}
	}
	return s.authorize(x, action, string(t))
}

// deleteManifest is end-9.
func (s *Server) deleteManifest(x *exchange) error {
	if err := s.authorize(x, auth.Delete, x.ref); err != nil {
		return err
	}
	ref, err := x.wanted()
	if err != nil {
		return err
	}
	if err := s.guardCollision(x, ref); err != nil {
		return err
	}
	if err := s.registry.DeleteManifest(x.r.Context(), x.repo, ref); err != nil {
		return err
	}
	return x.accepted()
}

// accepted answers 202 without a body.
func (x *exchange) accepted() error {
	x.header("Content-Length", "0")
	x.version()
	x.WriteHeader(http.StatusAccepted)
	return nil
}

// guardCollision keeps those who have detectManifestCollision from deleting a manifest that several tags name.
func (s *Server) guardCollision(x *exchange, ref distribution.Reference) error {
	if ref.Digest == "" || !s.auth.Has(x.who, s.query(x, auth.DetectManifestCollision, x.ref)) {
		return nil
	}
	tags, err := s.registry.TagInfos(x.r.Context(), x.repo, distribution.All)
	if err != nil {
		return err
	}
	var naming []string
	for _, t := range tags {
		if t.Digest == ref.Digest {
			naming = append(naming, string(t.Tag))
		}
	}
	if len(naming) < 2 {
		return nil
	}
	return &distribution.Error{Code: distribution.CodeManifestInvalid, Class: errdefs.ErrConflict,
		Message: "several tags name the manifest", Detail: map[string]any{"tags": naming}}
}

// warnBefore is how long before its end an API key's user is warned.
const warnBefore = 7 * 24 * time.Hour

// warn tells of credentials that are about to end (section "Warnings").
func (s *Server) warn(x *exchange) {
	if x.who == nil || x.who.Expires.IsZero() {
		return
	}
	if left := x.who.Expires.Sub(x.start); left < warnBefore {
		x.Header().Add("Warning", `299 - "Your API key will expire at `+x.who.Expires.UTC().Format(time.RFC3339)+`."`)
	}
}
