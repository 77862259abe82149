-- Groups of a tenant's directory, and the roles that its administrators map them to.

CREATE TABLE scim_groups (
  tenant_id    text NOT NULL REFERENCES tenants (id),
  id           text NOT NULL,
  display_name text NOT NULL,
  folded       text NOT NULL,          -- the name in small letters, by which it is found
  external_id  text NOT NULL,
  role         text NOT NULL,          -- what its members are here, or empty
  created_at   timestamptz NOT NULL,
  updated_at   timestamptz NOT NULL,
  PRIMARY KEY (tenant_id, id),
  UNIQUE (tenant_id, folded)
);
-- +isolate scim_groups

CREATE TABLE scim_group_members (
  tenant_id text NOT NULL REFERENCES tenants (id),
  group_id  text NOT NULL,
  person_id text NOT NULL,             -- of scim_users
  PRIMARY KEY (tenant_id, group_id, person_id),
  FOREIGN KEY (tenant_id, group_id) REFERENCES scim_groups (tenant_id, id) ON DELETE CASCADE,
  FOREIGN KEY (tenant_id, person_id) REFERENCES scim_users (tenant_id, id) ON DELETE CASCADE
);
CREATE INDEX scim_group_members_person ON scim_group_members (tenant_id, person_id);
-- +isolate scim_group_members
