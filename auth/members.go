package auth

import (
	"cmp"
	"context"
	"time"

	"gorm.io/gorm/clause"

	"github.com/chainreactions/chainreactions/domain"
	"github.com/chainreactions/chainreactions/domain/audit"
)

// Member is a person in the tenant.
type Member struct {
	ID       string     `json:"id"`
	UserID   string     `json:"user_id"`
	Email    string     `json:"email"`
	FullName string     `json:"full_name"`
	Role     string     `json:"role" doc:"a built-in role, or the id of one of the tenant's own"`
	JoinedAt time.Time  `json:"joined_at"`
	SeenAt   *time.Time `json:"seen_at" nullable:"true" doc:"last use of a session here"`
	Yourself bool       `json:"yourself" gorm:"-"`
	ByGroup  bool       `json:"by_group" doc:"a group of the tenant's directory gives the role: it is not changed by hand"`
}

// Members lists the people of the tenant in the order in which they joined.
func (s *Service) Members(ctx context.Context, in domain.PageRequest) (domain.Page[Member], error) {
	after, err := in.After()
	if err != nil {
		return domain.Page[Member]{}, err
	}
	rows, err := s.members(ctx, "m.id > @id", after, in.Size()+1)
	return domain.NewPage(rows, in.Size(), func(m Member) string { return m.ID }), err
}

// members reads people of the scope's tenant: names and addresses stand in a
// table that belongs to no tenant.
func (s *Service) members(ctx context.Context, where, id string, limit int) (rows []Member, err error) {
	scope, _ := domain.ScopeOf(ctx)
	err = s.Store.Read(domain.System(ctx, "people of a tenant"), func(ctx context.Context) error {
		return s.Store.SQL(ctx, `SELECT m.id, m.user_id, u.email, u.full_name, m.role, m.created_at AS joined_at,
			m.role <> 'owner' AND EXISTS (SELECT 1 FROM scim_users p JOIN scim_group_members i ON i.tenant_id = p.tenant_id AND i.person_id = p.id
				JOIN scim_groups g ON g.tenant_id = i.tenant_id AND g.id = i.group_id WHERE p.tenant_id = m.tenant_id AND p.user_id = m.user_id AND g.role <> '') AS by_group
			FROM memberships m JOIN users u ON u.id = m.user_id WHERE m.tenant_id = @owner AND `+where+` ORDER BY m.id LIMIT @limit`,
			map[string]any{"owner": scope.Tenant, "id": id, "limit": limit}).Scan(&rows).Error
	})
	if err != nil || len(rows) == 0 {
		return rows, err
	}
	users := make([]string, len(rows))
	for i := range rows {
		users[i] = rows[i].UserID
		rows[i].Yourself = rows[i].UserID == scope.Actor.ID
	}
	var sessions []Session
	err = s.Store.Read(ctx, func(ctx context.Context) error {
		return s.Store.For(ctx).Select("tenant_id", "user_id", "seen_at").Where("user_id IN ? AND impersonator = ''", users).Order("seen_at").Find(&sessions).Error
	})
	for _, session := range sessions {
		for i := range rows {
			if rows[i].UserID == session.UserID {
				rows[i].SeenAt = &session.SeenAt
			}
		}
	}
	return rows, err
}

// MemberRequest names a member.
type MemberRequest struct {
	ID string `path:"id"`
}

// UpdateMemberRequest gives a member another role.
type UpdateMemberRequest struct {
	ID   string `path:"id"`
	Role string `json:"role" minLength:"1" maxLength:"64"`
}

// UpdateMember changes a member's role. Neither the old nor the new may do more
// than the caller, and the last owner stays one. Whose role groups of the
// directory give can become an owner, and cease to be one.
func (s *Service) UpdateMember(ctx context.Context, in UpdateMemberRequest) (Member, error) {
	err := s.Store.Tx(ctx, func(ctx context.Context) error {
		m, err := s.lockMember(ctx, in.ID)
		if err != nil {
			return err
		}
		for _, role := range []string{m.Role, in.Role} {
			if err := s.giveable(ctx, "role", role); err != nil {
				return err
			}
		}
		if in.Role != "owner" {
			if err := s.notTheLastOwner(ctx, m); err != nil {
				return err
			}
			given, err := s.groupRoleOf(ctx, m.TenantID, m.UserID, false)
			if err != nil {
				return err
			}
			if given != "" && given != in.Role {
				return domain.E(domain.Conflict, "role_by_group", "The groups of the directory give this person their role: it changes there, or where groups are mapped.")
			}
		}
		return s.setRole(ctx, m, in.Role)
	})
	if err != nil {
		return Member{}, err
	}
	return s.member(ctx, in.ID)
}

func (s *Service) setRole(ctx context.Context, m membership, role string) error {
	if err := s.Store.For(ctx).Model(&membership{}).Where("id = ?", m.ID).Update("role", role).Error; err != nil {
		return err
	}
	s.Store.AfterCommit(ctx, func() { s.forgetPerson(m.UserID) })
	return s.Audit.Record(ctx, audit.Entry{Action: "member.update", Target: m.ID, Detail: map[string]any{"user": m.UserID, "from": m.Role, "to": role}})
}

// Names gives the names of people who are members, by id.
func (s *Service) Names(ctx context.Context, ids []string) (map[string]string, error) {
	tenant := domain.TenantOf(ctx)
	var rows []Member
	err := s.Store.Read(domain.System(ctx, "people of a tenant"), func(ctx context.Context) error {
		return s.Store.SQL(ctx, "SELECT m.user_id, u.full_name FROM memberships m JOIN users u ON u.id = m.user_id WHERE m.tenant_id = @owner AND m.user_id IN @ids",
			map[string]any{"owner": tenant, "ids": ids}).Scan(&rows).Error
	})
	out := map[string]string{}
	for _, m := range rows {
		out[m.UserID] = m.FullName
	}
	return out, err
}

func (s *Service) member(ctx context.Context, id string) (Member, error) {
	rows, err := s.members(ctx, "m.id = @id", id, 1)
	if err == nil && len(rows) == 0 {
		err = domain.ErrNotFound()
	}
	if err != nil {
		return Member{}, err
	}
	return rows[0], nil
}

// lockMember reads the member. Every owner's row is locked first, so that two
// owners who leave at once see each other.
func (s *Service) lockMember(ctx context.Context, id string) (m membership, err error) {
	var owners []membership
	locked := s.Store.For(ctx).Clauses(clause.Locking{Strength: "UPDATE"}).Where("role = 'owner'").Order("id").Find(&owners)
	if locked.Error != nil {
		return m, locked.Error
	}
	return m, s.Store.For(ctx).Clauses(clause.Locking{Strength: "UPDATE"}).Where("id = ?", id).Take(&m).Error
}

func (s *Service) notTheLastOwner(ctx context.Context, m membership) error {
	if m.Role != "owner" {
		return nil
	}
	var others int64
	if err := s.Store.For(ctx).Model(&membership{}).Where("role = 'owner' AND id <> ?", m.ID).Count(&others).Error; err != nil {
		return err
	}
	if others == 0 {
		return domain.E(domain.Conflict, "last_owner", "A tenant keeps at least one owner.")
	}
	return nil
}

// RemoveMember takes a person out of the tenant: their sessions here, the keys
// they made and the invitations they sent end with the membership.
func (s *Service) RemoveMember(ctx context.Context, in MemberRequest) error {
	return s.Store.Tx(ctx, func(ctx context.Context) error {
		m, err := s.lockMember(ctx, in.ID)
		if err != nil {
			return err
		}
		if err := s.giveable(ctx, "role", m.Role); err != nil {
			return err
		}
		return s.remove(ctx, m, "member.remove")
	})
}

// Leave takes the caller out of the tenant.
func (s *Service) Leave(ctx context.Context, _ struct{}) error {
	scope, _ := domain.ScopeOf(ctx)
	return s.Store.Tx(ctx, func(ctx context.Context) error {
		var m membership
		if err := s.Store.For(ctx).Where("user_id = ?", scope.Actor.ID).Take(&m).Error; err != nil {
			return err
		}
		m, err := s.lockMember(ctx, m.ID)
		if err != nil {
			return err
		}
		return s.remove(ctx, m, "member.leave")
	})
}

func (s *Service) remove(ctx context.Context, m membership, action string) error {
	if err := s.notTheLastOwner(ctx, m); err != nil {
		return err
	}
	db, now := s.Store.For(ctx), s.Now().UTC()
	if err := db.Where("id = ?", m.ID).Delete(&membership{}).Error; err != nil {
		return err
	}
	if err := db.Model(&Session{}).Where("user_id = ? AND revoked_at IS NULL", m.UserID).Update("revoked_at", now).Error; err != nil {
		return err
	}
	keys := db.Model(&APIKey{}).Where("created_by = ? AND revoked_at IS NULL", m.UserID).Update("revoked_at", now)
	if keys.Error != nil {
		return keys.Error
	}
	sent := db.Model(&Invitation{}).Where("invited_by = ? AND accepted_at IS NULL AND revoked_at IS NULL", m.UserID).Updates(map[string]any{"revoked_at": now, "email": ""})
	if sent.Error != nil {
		return sent.Error
	}
	if err := s.Seats(ctx, m.TenantID, -1-sent.RowsAffected); err != nil {
		return err
	}
	s.Store.AfterCommit(ctx, func() { s.forgetPerson(m.UserID) })
	return s.Audit.Record(ctx, audit.Entry{Action: action, Target: m.ID,
		Detail: map[string]any{"user": m.UserID, "role": m.Role, "keys_revoked": keys.RowsAffected, "invitations_revoked": sent.RowsAffected}})
}

// forgetPerson drops what this process believes of sessions and keys; others
// read them anew within a second.
func (s *Service) forgetPerson(string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.sessions)
	clear(s.keys)
}

// TransferRequest names who becomes the owner.
type TransferRequest struct {
	MemberID string `json:"member_id" maxLength:"64"`
}

// TransferOwnership makes a member an owner and the caller, who must be one, an
// admin, or what the directory's groups give them.
func (s *Service) TransferOwnership(ctx context.Context, in TransferRequest) (Member, error) {
	scope, _ := domain.ScopeOf(ctx)
	err := s.Store.Tx(ctx, func(ctx context.Context) error {
		to, err := s.lockMember(ctx, in.MemberID)
		if err != nil {
			return err
		}
		var from membership
		if err := s.Store.For(ctx).Where("user_id = ?", scope.Actor.ID).Take(&from).Error; err != nil {
			return err
		}
		if from.Role != "owner" {
			return domain.E(domain.Forbidden, "forbidden", "Only an owner can do this.")
		}
		if from.ID == to.ID {
			return domain.InvalidField("member_id", "not_allowed", "This is you already.")
		}
		if err := s.setRole(ctx, to, "owner"); err != nil {
			return err
		}
		given, err := s.groupRoleOf(ctx, from.TenantID, from.UserID, false)
		if err != nil {
			return err
		}
		return s.setRole(ctx, from, cmp.Or(given, "admin"))
	})
	if err != nil {
		return Member{}, err
	}
	return s.member(ctx, in.MemberID)
}

var _ = domain.Chinese(map[string]string{
	"A tenant keeps at least one owner.": "租户至少保留一名所有者。",
	"Only an owner can do this.":         "只有所有者可以执行此操作。",
	"This is you already.":               "这已经是您本人。",
})
