package registryv1

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"longshore/internal/core/distribution"
	"longshore/internal/server/wirev1"
	"longshore/internal/service/auth"
	"longshore/internal/service/hub"
	service "longshore/internal/service/registryv1"
)

// cookieName is the session's, as in the document. Its path keeps it apart from the web interface's of the same name.
const (
	cookieName = "session"
	cookiePath = "/v1/"
)

// visit is who asks, and for what the index let them in; grant is nil for those who came by themselves.
type visit struct {
	who   *auth.Subject
	grant *hub.Grant
}

// enter finds out who asks: by a token, which opens a session; by the session's cookie; by name and password; or not at all.
// repo is what the request is about, empty for images; it needs one of the actions.
func (x *exchange) enter(repo distribution.RepoName, actions ...auth.Action) error {
	ctx := x.r.Context()
	token, isToken := wirev1.ParseToken(x.r.Header.Get("Authorization"))
	var session *hub.Grant
	if cookie, err := x.r.Cookie(cookieName); err == nil {
		g, err := x.hub.Session(ctx, cookie.Value)
		switch {
		case err == nil:
			session = &g
		case !errdefs.IsUnauthorized(err):
			return err
		}
	}
	switch {
	case isToken && session != nil && covers(session, token):
	case isToken:
		g, err := x.redeem(token)
		if err != nil {
			return err
		}
		session = &g
	case session != nil && (fits(session, repo, actions) || !x.mayEnterAlone()):
	default:
		return x.enterAlone()
	}
	who, err := x.gate.Auth.Return(ctx, session.User, session.Proof)
	if err != nil {
		return err
	}
	x.gate.Subject(ctx, who.Name)
	x.visit = visit{who, session}
	return nil
}

// covers says that a session was opened for what a token claims. Clients send the token with every request: it is used up
// by the first, and the cookie counts from then on.
func covers(g *hub.Grant, t wirev1.Token) bool {
	return string(g.Repo) == t.Repository && string(g.Access) == t.Access
}

// fits says that a session is for a request. One that is not is as good as none where there is another way in.
func fits(g *hub.Grant, repo distribution.RepoName, actions []auth.Action) bool {
	return (repo == "" || g.Repo == repo) && slices.ContainsFunc(actions, func(a auth.Action) bool { return g.Allows(string(a)) })
}

func (x *exchange) mayEnterAlone() bool {
	return x.gate.Options().Standalone || x.r.Header.Get("Authorization") != ""
}

// redeem uses the token up and gives the client a session for it.
func (x *exchange) redeem(t wirev1.Token) (hub.Grant, error) {
	repo, err := wirev1.RepoName(t.Repository)
	if err != nil {
		return hub.Grant{}, hub.ErrToken
	}
	g, err := x.hub.Redeem(x.r.Context(), t.Signature, repo, hub.Access(t.Access))
	if errdefs.IsUnauthorized(err) && t.Repository == string(wirev1.Bare(repo)) {
		g, err = x.hub.Redeem(x.r.Context(), t.Signature, wirev1.Bare(repo), hub.Access(t.Access))
	}
	if err != nil {
		return g, err
	}
	cookie, err := x.hub.OpenSession(x.r.Context(), g)
	if err != nil {
		return g, err
	}
	http.SetCookie(x, &http.Cookie{
		Name: cookieName, Value: cookie, Path: cookiePath, HttpOnly: true, SameSite: http.SameSiteLaxMode,
		Secure: x.gate.Options().SecureCookies || x.r.TLS != nil,
	})
	return g, nil
}

// enterAlone is for requests without a token or a session: those of standalone registries, and of whoever has a password.
func (x *exchange) enterAlone() error {
	who, err := x.gate.Who(x.r)
	if err != nil {
		return err
	}
	if who.IsAnonymous() && !x.gate.Options().Standalone {
		return hub.ErrToken
	}
	x.visit = visit{who: who}
	return nil
}

// may asks whether the visitor may do something in a repository: the index must have let it in for that, and the access
// policies must still allow it.
func (x *exchange) may(repo distribution.RepoName, a auth.Action, reference string) error {
	g := x.visit.grant
	if g != nil && g.Repo != repo {
		return hub.ErrToken
	}
	if err := x.gate.Auth.Authorize(x.visit.who, x.gate.Ask(x.r, repo, a, reference)); err != nil {
		return err
	}
	if g != nil && !g.Allows(string(a)) {
		return hub.ErrToken // another token would do
	}
	return nil
}

// mayEither is may for one of two actions.
func (x *exchange) mayEither(repo distribution.RepoName, reference string, actions ...auth.Action) error {
	var err error
	for _, a := range actions {
		if err = x.may(repo, a, reference); err == nil {
			return nil
		}
	}
	return err
}

// caller is the visitor as service/registryv1 knows one.
func (x *exchange) caller() service.Caller {
	who := x.visit.who
	c := service.Caller{User: who.Name}
	if g := x.visit.grant; g != nil {
		c.Repo = g.Repo
		// A session may be for less than its user may do; that of nobody in standalone mode is not.
		c.Narrow = !who.IsAnonymous() || !x.gate.Options().Standalone
	}
	if !c.Narrow {
		c.Readable = x.gate.Readable(x.r, who)
	}
	return c
}

// Unplaced stands for where images lie that no tag has given to a repository. Whoever may create it may push them.
const Unplaced = "_v1"

// reading is for images that are asked for.
func reading(do action) action {
	return func(x *exchange) error {
		if err := x.enter("", auth.Read); err != nil {
			return err
		}
		if g := x.visit.grant; g != nil {
			if err := x.may(g.Repo, auth.Read, ""); err != nil {
				return err
			}
		}
		return do(x)
	}
}

// writing is for images that are pushed.
func writing(do action) action {
	return func(x *exchange) error {
		if err := x.enter("", auth.Create, auth.Update); err != nil {
			return err
		}
		repo := distribution.RepoName(Unplaced)
		if g := x.visit.grant; g != nil {
			repo = g.Repo
		}
		if err := x.mayEither(repo, "", auth.Create, auth.Update); err != nil {
			return err
		}
		return do(x)
	}
}

// on is for repositories. A name with one part may be that of a repository that clients of today have pushed: they know no
// library.
func on(a auth.Action, do action) action {
	return forAny(func(x *exchange) error {
		if a == auth.Read {
			x.preferKnown()
		}
		if err := x.may(x.repo, a, x.target.Tag); err != nil {
			return err
		}
		return do(x)
	}, a)
}

// forAny is for what takes one of several actions; do asks which.
func forAny(do action, actions ...auth.Action) action {
	return func(x *exchange) error {
		if err := x.enter(x.repo, actions...); err != nil {
			return err
		}
		return do(x)
	}
}

func (x *exchange) preferKnown() {
	bare := wirev1.Bare(x.repo)
	if bare == "" || x.visit.grant != nil && x.visit.grant.Repo != bare {
		return
	}
	if known, err := x.svc.Has(x.r.Context(), x.repo, time.Time{}); err != nil || known {
		return
	}
	if known, err := x.svc.Has(x.r.Context(), bare, time.Time{}); err == nil && known {
		x.repo = bare
	}
}

// actionsOf is what an access of a token is made of.
func actionsOf(a hub.Access) []auth.Action {
	switch a {
	case hub.Read:
		return []auth.Action{auth.Read}
	case hub.Write:
		return []auth.Action{auth.Read, auth.Create, auth.Update}
	case hub.Delete:
		return []auth.Action{auth.Read, auth.Delete}
	}
	return nil
}

// Granted is what of an access somebody may do now, in the access policies' words, and whether that is enough for a token.
func Granted(g *wirev1.Gate, r *http.Request, who *auth.Subject, repo distribution.RepoName, a hub.Access) ([]string, error) {
	var words []string
	var refused error
	for _, action := range actionsOf(a) {
		if err := g.Auth.Authorize(who, g.Ask(r, repo, action, "")); err != nil {
			refused = err
			continue
		}
		words = append(words, string(action))
	}
	enough := map[hub.Access][]auth.Action{
		hub.Read: {auth.Read}, hub.Write: {auth.Create, auth.Update}, hub.Delete: {auth.Delete},
	}[a]
	for _, action := range enough {
		if slices.Contains(words, string(action)) {
			return words, nil
		}
	}
	if refused == nil {
		refused = fmt.Errorf("access %q: %w", a, errdefs.ErrInvalidArgument)
	}
	return nil, refused
}
