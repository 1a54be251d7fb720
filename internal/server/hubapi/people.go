package hubapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"longshore/internal/core/fault"
	"longshore/internal/server/httperr"
	"longshore/internal/server/wirev1"
	"longshore/internal/service/auth"
	"longshore/internal/service/auth/accounts"
	"longshore/internal/service/hub"
)

// login says whether a name and a password are right.
func login(x *exchange) error {
	if err := x.identify(true); err != nil {
		return err
	}
	wirev1.JSON(x, http.StatusOK, "OK")
	return nil
}

// person is the body of requests about users.
type person struct {
	Username string `json:"username"`
	Password string `json:"password"`
	Email    string `json:"email"`
}

func (x *exchange) person() (p person, err error) {
	data, err := wirev1.Body(x, x.r)
	if err != nil {
		return p, err
	}
	if json.Unmarshal(data, &p) != nil {
		return p, fault.Invalid("Invalid JSON")
	}
	return p, nil
}

// register makes an account. The errors of this request are bare strings: docker compares one of them, and goes on to log in
// then. Where accounts are made by others it goes on at 401.
func register(x *exchange) error {
	if x.people == nil || !x.people.Open() {
		return hub.ErrToken
	}
	p, err := x.person()
	if err == nil {
		err = missing(p)
	}
	if err == nil {
		_, err = x.people.Register(x.r.Context(), accounts.Registration{Name: p.Username, Password: p.Password, Email: p.Email})
	}
	if err == nil {
		wirev1.JSON(x, http.StatusCreated, "User Created")
		return nil
	}
	status := httperr.Status(err)
	if errors.Is(err, accounts.ErrTaken) || errdefs.IsAlreadyExists(err) {
		status = http.StatusBadRequest
	}
	if status >= http.StatusInternalServerError {
		return err
	}
	wirev1.JSON(x, status, err.Error())
	return nil
}

// missing names the first field that is not there.
func missing(p person) error {
	for _, f := range []struct{ name, value string }{{"username", p.Username}, {"password", p.Password}, {"email", p.Email}} {
		if f.value == "" {
			return fault.Invalid("missing field: %s", f.name)
		}
	}
	return nil
}

// updateUser changes a password or adds an address: a user its own, an administrator everybody's.
func updateUser(x *exchange) error {
	name := strings.Trim(strings.TrimPrefix(x.r.URL.Path, "/v1/users/"), "/")
	if err := x.identify(true); err != nil {
		return err
	}
	if x.people == nil {
		return fault.NotFound("User not found")
	}
	// An API key must not become a password.
	if x.who.Method != auth.Password || x.who.Name != name && !x.who.Admin {
		return fault.Forbidden("Permission denied")
	}
	p, err := x.person()
	if err != nil {
		return err
	}
	err = x.people.Update(x.r.Context(), name, accounts.Change{Password: p.Password, Email: p.Email})
	switch {
	case errdefs.IsNotFound(err):
		return fault.NotFound("User not found")
	case errdefs.IsAlreadyExists(err):
		return fault.Invalid("Username or email already exists")
	case err != nil:
		return err
	}
	wirev1.JSON(x, http.StatusNoContent, "")
	return nil
}

// results is the answer to a search.
type results struct {
	NumPages   int      `json:"num_pages"`
	NumResults int      `json:"num_results"`
	Results    []result `json:"results"`
	PageSize   int      `json:"page_size"`
	Query      string   `json:"query"`
	Page       int      `json:"page"`
}

type result struct {
	Name        string `json:"name"`
	Description string `json:"description"`
	StarCount   int64  `json:"star_count"`
	IsOfficial  bool   `json:"is_official"`
	IsTrusted   bool   `json:"is_trusted"`
	// IsAutomated is what later clients call IsTrusted.
	IsAutomated bool `json:"is_automated"`
}

// search needs no name; with one, more may be found.
func search(x *exchange) error {
	if err := x.identify(false); err != nil {
		return err
	}
	q := x.r.URL.Query()
	found, err := x.hub.Search(x.r.Context(), hub.Search{
		Term: q.Get("q"), N: number(q.Get("n")), Page: number(q.Get("page")), Readable: x.gate.Readable(x.r, x.who),
	})
	if err != nil {
		return err
	}
	out := results{
		NumPages: found.Pages, NumResults: found.Total, PageSize: found.N, Query: q.Get("q"), Page: found.Page, Results: []result{},
	}
	for _, r := range found.List {
		out.Results = append(out.Results, result{
			Name: r.Name, Description: r.Description, StarCount: r.Stars, IsOfficial: r.Official, IsTrusted: r.Trusted, IsAutomated: r.Trusted,
		})
	}
	wirev1.JSON(x, http.StatusOK, out)
	return nil
}

// number is 0 for what is none.
func number(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0
	}
	return n
}
