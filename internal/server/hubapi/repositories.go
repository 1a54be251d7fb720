package hubapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/core/fault"
	"longshore/internal/core/graph"
	"longshore/internal/core/imagev1"
	"longshore/internal/server/registryv1"
	"longshore/internal/server/wirev1"
	"longshore/internal/service/auth"
	"longshore/internal/service/hub"
)

// allocate begins a push: the repository is the index's from now on, and the client gets a token for the registry.
func allocate(x *exchange) error {
	actions, err := x.enter(hub.Write)
	if err != nil {
		return err
	}
	records, err := x.records()
	if err != nil {
		return err
	}
	if err := x.hub.Allocate(x.r.Context(), x.repo, records); err != nil {
		return err
	}
	if err := x.token(hub.Write, actions); err != nil {
		return err
	}
	wirev1.JSON(x, http.StatusOK, "")
	return nil
}

// enter identifies and authorises for an access.
func (x *exchange) enter(a hub.Access) ([]string, error) {
	if err := x.identify(false); err != nil {
		return nil, err
	}
	words, err := registryv1.Granted(x.gate, x.r, x.who, x.repo, a)
	if err == nil && a != hub.Read && wirev1.InLibrary(x.repo) && !x.administers(a) {
		return nil, fault.Forbidden("Permission denied: library is for administrators")
	}
	return words, err
}

// administers is the rule for library: where there are administrators, only they write there, unless everybody may.
func (x *exchange) administers(a hub.Access) bool {
	if !x.gate.Auth.Administered() || x.who.Admin || x.gate.Auth.IsAdmin(x.who) {
		return true
	}
	_, err := registryv1.Granted(x.gate, x.r, &auth.Subject{}, x.repo, a)
	return err == nil
}

// token tells where the repository lives, and gives a token for it when the client wants one.
func (x *exchange) token(a hub.Access, actions []string) error {
	h := x.Header()
	h.Set("X-Docker-Endpoints", strings.Join(x.endpoints(), ", "))
	if !strings.EqualFold(x.r.Header.Get("X-Docker-Token"), "true") {
		return nil
	}
	signature, err := x.hub.Issue(x.r.Context(), hub.Grant{
		User: x.who.Name, Proof: x.who.Proof, Repo: x.repo, Access: a, Actions: actions,
	})
	if err != nil {
		return err
	}
	t := wirev1.Token{Signature: signature, Repository: string(x.repo), Access: string(a)}.String()
	h.Set("WWW-Authenticate", "Token "+t)
	h.Set("X-Docker-Token", t)
	return nil
}

func (x *exchange) endpoints() []string {
	if list := x.gate.Options().Endpoints; len(list) > 0 {
		return list
	}
	return []string{x.r.Host}
}

// record is an image in the words of the index.
type record struct {
	ID       string `json:"id"`
	Checksum string `json:"checksum,omitempty"`
	Tag      string `json:"Tag,omitempty"`
}

// maxChecksum bounds a checksum in bytes.
const maxChecksum = 200

// records reads the list of images in a request; no body is no images.
func (x *exchange) records() ([]graph.Record, error) {
	data, err := wirev1.Body(x, x.r)
	if err != nil {
		return nil, err
	}
	if text := strings.TrimSpace(string(data)); text == "" || text == `""` {
		return nil, nil
	}
	var list []record
	if err := json.Unmarshal(data, &list); err != nil {
		return nil, fault.Invalid("Invalid JSON")
	}
	out := make([]graph.Record, len(list))
	for n, r := range list {
		id, err := imagev1.ParseID(r.ID)
		if err != nil {
			return nil, err
		}
		if len(r.Checksum) > maxChecksum || len(r.Tag) > maxChecksum {
			return nil, fault.Invalid("Invalid data")
		}
		out[n] = graph.Record{ID: id, Checksum: r.Checksum, Tag: r.Tag}
	}
	return out, nil
}

// getImages begins a pull: which images a repository has, and where. A registry asks it as well, with the client's token,
// which is used up then.
func getImages(x *exchange) error {
	if t, isToken := wirev1.ParseToken(x.r.Header.Get("Authorization")); isToken {
		if _, err := x.redeem(t); err != nil {
			return err
		}
		return x.list()
	}
	actions, err := x.enter(hub.Read)
	var refused *auth.Refused
	if errors.As(err, &refused) && !errdefs.IsUnauthorized(err) {
		return errRepository // that it is there is told only to those who may read it
	}
	if err != nil {
		return err
	}
	known, err := x.known()
	if err != nil {
		return err
	}
	if !known {
		return errRepository
	}
	if err := x.token(hub.Read, actions); err != nil {
		return err
	}
	return x.list()
}

var errRepository = fault.NotFound("Repository not found")

// known says whether index or registry know the repository. A name with one part may be that of a repository that clients of
// today have pushed.
func (x *exchange) known() (bool, error) {
	ctx := x.r.Context()
	r, err := x.hub.Repository(ctx, x.repo)
	if err == nil && r.Deleted.IsZero() {
		return true, nil
	}
	if err != nil && !errdefs.IsNotFound(err) {
		return false, err
	}
	there, err := x.images.Has(ctx, x.repo, r.Deleted)
	if there || err != nil {
		return there, err
	}
	bare := wirev1.Bare(x.repo)
	if bare == "" || x.gate.Auth.Authorize(x.who, x.gate.Ask(x.r, bare, auth.Read, "")) != nil {
		return false, nil
	}
	if there, err = x.images.Has(ctx, bare, time.Time{}); there {
		x.repo = bare
	}
	return there, err
}

// list tells what the registry has, then what clients have told besides.
func (x *exchange) list() error {
	ctx := x.r.Context()
	list, err := x.images.Records(ctx, x.repo)
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	r, err := x.hub.Repository(ctx, x.repo)
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	at := map[imagev1.ID]int{}
	for n, i := range list {
		at[i.ID] = n
	}
	for _, i := range r.Images {
		n, there := at[i.ID]
		if !there {
			list = append(list, i)
		} else if list[n].Checksum == "" {
			list[n].Checksum = i.Checksum
		}
	}
	out := make([]record, len(list))
	for n, i := range list {
		out[n] = record{ID: string(i.ID), Checksum: i.Checksum, Tag: i.Tag}
	}
	wirev1.JSON(x, http.StatusOK, out)
	return nil
}

// putImages ends a push: the client tells the checksums, which must be those that the registry has found.
func putImages(x *exchange) error {
	if _, err := x.enter(hub.Write); err != nil {
		return err
	}
	records, err := x.records()
	if err != nil {
		return err
	}
	ctx := x.r.Context()
	if err := x.images.CheckRecords(ctx, x.repo, records); err != nil {
		return err
	}
	if err := x.hub.Record(ctx, x.repo, records); err != nil {
		return err
	}
	wirev1.JSON(x, http.StatusNoContent, "")
	return nil
}

// deleteImages forgets what clients have told; what the registry has stays.
func deleteImages(x *exchange) error {
	if _, err := x.enter(hub.Delete); err != nil {
		return err
	}
	if err := x.hub.Unrecord(x.r.Context(), x.repo); err != nil {
		return err
	}
	wirev1.JSON(x, http.StatusNoContent, "")
	return nil
}

// deleteRepository is both ends of a deletion. The first request marks the repository and gives a token for the registry;
// the one that comes when the registry has deleted it confirms.
func deleteRepository(x *exchange) error {
	actions, err := x.enter(hub.Delete)
	if err != nil {
		return err
	}
	ctx := x.r.Context()
	has, err := x.images.Has(ctx, x.repo, time.Time{})
	if err != nil {
		return err
	}
	r, err := x.hub.Repository(ctx, x.repo)
	switch {
	case errdefs.IsNotFound(err) && !has:
		return errRepository
	case err != nil && !errdefs.IsNotFound(err):
		return err
	case !r.Deleted.IsZero() && !has:
		if err := x.hub.Forget(ctx, x.repo); err != nil {
			return err
		}
		wirev1.JSON(x, http.StatusOK, "")
		return nil
	}
	if err := x.hub.MarkDeleted(ctx, x.repo); err != nil {
		return err
	}
	if err := x.token(hub.Delete, actions); err != nil {
		return err
	}
	wirev1.JSON(x, http.StatusAccepted, "")
	return nil
}

// authorize is a registry's question whether a token is good. It is used up by the answer.
func authorize(x *exchange) error {
	t, isToken := wirev1.ParseToken(x.r.Header.Get("Authorization"))
	if !isToken {
		return errDenied
	}
	if _, err := x.redeem(t); err != nil {
		if errdefs.IsUnauthorized(err) {
			return errDenied
		}
		return err
	}
	wirev1.JSON(x, http.StatusOK, "OK")
	return nil
}

var errDenied = fault.Forbidden("Permission denied")

// redeem takes a token for the repository of the path, whose user must still be allowed to use it.
func (x *exchange) redeem(t wirev1.Token) (hub.Grant, error) {
	if repo, err := wirev1.RepoName(t.Repository); err != nil || repo != x.repo {
		return hub.Grant{}, hub.ErrToken
	}
	g, err := x.hub.Redeem(x.r.Context(), t.Signature, x.repo, hub.Access(t.Access))
	if err != nil {
		return g, err
	}
	if x.who, err = x.gate.Auth.Return(x.r.Context(), g.User, g.Proof); err != nil {
		return g, err
	}
	_, err = registryv1.Granted(x.gate, x.r, x.who, x.repo, g.Access)
	return g, err
}
