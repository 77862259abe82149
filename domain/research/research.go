// Package research runs long investigations: how an institution is tied to
// organisations of concern, what an organisation is, and a whole list against
// one institution.
package research
