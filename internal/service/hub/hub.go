// Package hub is the index of registry API v1 (the index API, later Docker Hub's): which repositories there are, the
// single-use tokens by which the index tells a registry what somebody may do, the sessions that those open, and the search.
// People are service/auth's.
//
//	h := hub.New(graph, tokens, hub.Config{})
//	signature, err := h.Issue(ctx, hub.Grant{User: "jane", Repo: "team/app", Access: hub.Write, Actions: []string{"read", "create"}})
//	grant, err := h.Redeem(ctx, signature, "team/app", hub.Write) // once
//
// It knows no rights: the server asks service/auth and tells the outcome.
package hub

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/core/account"
	"longshore/internal/core/credential"
	"longshore/internal/core/distribution"
	"longshore/internal/core/fault"
	"longshore/internal/core/graph"
	"longshore/internal/core/imagev1"
)

// Config is what an administrator decides.
type Config struct {
	// TokenLife is how long a token may wait for its use; default 10 min. SessionLife is how long the session lasts that it
	// opens: as long as the longest push or pull; default 12 h.
	TokenLife, SessionLife time.Duration
	// Describe tells of a repository of which nobody has told the index; nil knows nothing.
	Describe func(ctx context.Context, repo distribution.RepoName) string
	// Logger gets what fails in the background; nil discards.
	Logger *slog.Logger
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Service is the index. Make it with New, run its background with Run.
type Service struct {
	repos  graph.Repositories
	tokens account.Tokens
	cfg    Config
}

// New makes a service; it starts nothing.
func New(repos graph.Repositories, tokens account.Tokens, cfg Config) *Service {
	if cfg.TokenLife <= 0 {
		cfg.TokenLife = 10 * time.Minute
	}
	if cfg.SessionLife <= 0 {
		cfg.SessionLife = 12 * time.Hour
	}
	if cfg.Describe == nil {
		cfg.Describe = func(context.Context, distribution.RepoName) string { return "" }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Service{repos: repos, tokens: tokens, cfg: cfg}
}

// Access is what a token is for, in the API's words.
type Access string

// The kinds of access.
const (
	Read   Access = "read"
	Write  Access = "write"
	Delete Access = "delete"
)

// Grant is what a token or a session allows.
type Grant struct {
	// User is who asked for it, empty for nobody; Proof is how the name had been proved.
	User  string
	Proof credential.Method
	Repo  distribution.RepoName
	// Access is what the token says. Actions are the access policies' words for what its user might do when it was made.
	Access  Access
	Actions []string
	// Expires is when it ends.
	Expires time.Time
}

// Allows says whether an action is among those that were granted.
func (g *Grant) Allows(action string) bool { return slices.Contains(g.Actions, action) }

// ErrToken is a token or a session that is worth nothing: unknown, used, expired, or another repository's.
var ErrToken = fault.New(errdefs.ErrUnauthenticated, "Requires authorization")

// Issue makes a token that can be used once, and returns its signature.
func (s *Service) Issue(ctx context.Context, g Grant) (signature string, err error) {
	g.Expires = s.cfg.Now().Add(s.cfg.TokenLife)
	return s.add(ctx, account.Hub, g)
}

// Redeem uses a token up. It must be for the repository and for the access that it claims to be.
func (s *Service) Redeem(ctx context.Context, signature string, repo distribution.RepoName, access Access) (Grant, error) {
	hash, now := account.Hash(signature), s.cfg.Now()
	// One that does not fit is not used up: whoever saw it once must not be able to spoil it.
	t, err := s.tokens.TokenByHash(ctx, account.Hub, hash)
	if err == nil {
		g := grantOf(t)
		if g.Repo != repo || g.Access != access || t.Expired(now) || !t.Used.IsZero() {
			return Grant{}, ErrToken
		}
		t, err = s.tokens.UseToken(ctx, account.Hub, hash, now)
	}
	if errdefs.IsNotFound(err) || errdefs.IsFailedPrecondition(err) {
		return Grant{}, ErrToken
	}
	return grantOf(t), err
}

// OpenSession makes a session of a token that was redeemed, and returns the cookie's value.
func (s *Service) OpenSession(ctx context.Context, g Grant) (cookie string, err error) {
	g.Expires = s.cfg.Now().Add(s.cfg.SessionLife)
	return s.add(ctx, account.Visit, g)
}

// Session finds the session of a cookie.
func (s *Service) Session(ctx context.Context, cookie string) (Grant, error) {
	t, err := s.tokens.TokenByHash(ctx, account.Visit, account.Hash(cookie))
	if errdefs.IsNotFound(err) || err == nil && t.Expired(s.cfg.Now()) {
		return Grant{}, ErrToken
	}
	return grantOf(t), err
}

func (s *Service) add(ctx context.Context, kind account.Kind, g Grant) (string, error) {
	secret := account.NewSecret()
	return secret, s.tokens.AddToken(ctx, account.Token{
		Hash: account.Hash(secret), Kind: kind, User: g.User, Proof: g.Proof, Audience: string(g.Repo),
		Scope: strings.Join(append([]string{string(g.Access)}, g.Actions...), " "), Created: s.cfg.Now(), Expires: g.Expires,
	})
}

func grantOf(t account.Token) Grant {
	words := strings.Fields(t.Scope)
	g := Grant{User: t.User, Proof: t.Proof, Repo: distribution.RepoName(t.Audience), Expires: t.Expires}
	if len(words) > 0 {
		g.Access, g.Actions = Access(words[0]), words[1:]
	}
	return g
}

// sweepEvery is how often tokens that are over are forgotten.
const sweepEvery = 10 * time.Minute

// Run forgets tokens and sessions that are over, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	for {
		now := s.cfg.Now()
		err := errors.Join(s.tokens.SweepTokens(ctx, account.Hub, now), s.tokens.SweepTokens(ctx, account.Visit, now))
		if err != nil && ctx.Err() == nil {
			s.cfg.Logger.Warn("tokens are not swept", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// maxRecords bounds what clients tell of the images of a repository.
const maxRecords = 20_000

// Allocate notes that a repository is about to be pushed to, with the images that are to come. One whose deletion nobody
// has confirmed is there again.
func (s *Service) Allocate(ctx context.Context, repo distribution.RepoName, images []graph.Record) error {
	return s.change(ctx, repo, func(r *graph.Repository) error {
		r.Deleted = time.Time{}
		return merge(r, images)
	})
}

// Record adds images, or checksums and tags to those that are there. Images are never taken away.
func (s *Service) Record(ctx context.Context, repo distribution.RepoName, images []graph.Record) error {
	return s.change(ctx, repo, func(r *graph.Repository) error { return merge(r, images) })
}

// Unrecord forgets what clients have told of images.
func (s *Service) Unrecord(ctx context.Context, repo distribution.RepoName) error {
	return s.change(ctx, repo, func(r *graph.Repository) error { r.Images = nil; return nil })
}

func (s *Service) change(ctx context.Context, repo distribution.RepoName, fn func(*graph.Repository) error) error {
	return s.repos.ChangeRepository(ctx, repo, s.cfg.Now(), fn)
}

func merge(r *graph.Repository, images []graph.Record) error {
	at := make(map[imagev1.ID]int, len(r.Images))
	for n, i := range r.Images {
		at[i.ID] = n
	}
	for _, i := range images {
		n, ok := at[i.ID]
		if !ok {
			n = len(r.Images)
			at[i.ID], r.Images = n, append(r.Images, graph.Record{ID: i.ID})
		}
		if i.Checksum != "" {
			r.Images[n].Checksum = i.Checksum
		}
		if i.Tag != "" {
			r.Images[n].Tag = i.Tag
		}
	}
	if len(r.Images) > maxRecords {
		return fault.Invalid("more than %d images", maxRecords)
	}
	return nil
}

// Repository is what the index knows; ErrNotFound when it knows nothing.
func (s *Service) Repository(ctx context.Context, repo distribution.RepoName) (graph.Repository, error) {
	return s.repos.Repository(ctx, repo)
}

// MarkDeleted begins a deletion: the repository is not found any more until it is pushed to again.
func (s *Service) MarkDeleted(ctx context.Context, repo distribution.RepoName) error {
	return s.change(ctx, repo, func(r *graph.Repository) error {
		r.Deleted, r.Images = s.cfg.Now(), nil
		return nil
	})
}

// Forget ends a deletion: the index knows nothing of the repository any more.
func (s *Service) Forget(ctx context.Context, repo distribution.RepoName) error {
	return s.repos.ForgetRepository(ctx, repo)
}

// About is what an administrator tells of a repository; nil leaves a field as it is.
type About struct {
	Description *string
	Stars       *int64
	Trusted     *bool
}

// clip bounds a description that comes from an image.
func clip(s string) string {
	if len(s) > maxDescription {
		return strings.ToValidUTF8(s[:maxDescription], "") + "…"
	}
	return s
}

// maxDescription bounds a description in bytes.
const maxDescription = 1000

// Describe changes what searches tell of a repository.
func (s *Service) Describe(ctx context.Context, repo distribution.RepoName, a About) error {
	return s.change(ctx, repo, func(r *graph.Repository) error {
		if a.Description != nil {
			r.Description = *a.Description
		}
		if a.Stars != nil {
			r.Stars = *a.Stars
		}
		if a.Trusted != nil {
			r.Trusted = *a.Trusted
		}
		if len(r.Description) > maxDescription || r.Stars < 0 {
			return fault.Invalid("the description is longer than %d bytes, or there are fewer than no stars", maxDescription)
		}
		return nil
	})
}
