import { Badge, Button, Group, Modal, Select, Stack, Table, Text, TextInput, Title } from '@mantine/core';
import { useDisclosure } from '@mantine/hooks';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, Problem, type Schema } from '../api';
import { format } from '../i18n';
import { useAct, say } from '../parts/act';
import { FormDialog } from '../parts/dialog';
import { Page } from '../parts/page';
import { useRoles } from '../parts/roles';
import { Answer, Refusal } from '../parts/states';
import { useSession } from '../session';
import { OwnRoles } from './roles';

export function Team() {
  const { t } = useTranslation();
  const { may, tenant } = useSession();
  const cache = useQueryClient();
  const { own, loaded, name, choices } = useRoles();
  const [opened, { open, close }] = useDisclosure();
  const [heir, setHeir] = useState<Schema<'Member'> | null>(null);
  const members = useQuery({ queryKey: ['members'], queryFn: () => data(api.GET('/api/v1/tenant/members', { params: { query: { limit: 200 } } })) });
  const invitations = useQuery({ queryKey: ['invitations'], queryFn: () => data(api.GET('/api/v1/tenant/invitations')) });
  const settled = () => Promise.all(['members', 'invitations', 'usage'].map((key) => cache.invalidateQueries({ queryKey: [key] })));
  const change = useMutation({
    mutationFn: ({ id, role }: { id: string; role: string }) => data(api.PATCH('/api/v1/tenant/members/{id}', { params: { path: { id } }, body: { role } })),
    onSettled: settled,
  });
  const remove = useMutation({ mutationFn: (id: string) => data(api.DELETE('/api/v1/tenant/members/{id}', { params: { path: { id } } })), onSettled: settled });
  const revoke = useMutation({ mutationFn: (id: string) => data(api.DELETE('/api/v1/tenant/invitations/{id}', { params: { path: { id } } })), onSettled: settled });
  const resend = useMutation({
    mutationFn: (id: string) => data(api.POST('/api/v1/tenant/invitations/{id}/resend', { params: { path: { id } } })),
    onSuccess: () => say(t('team.resent')),
    onSettled: settled,
  });
  const failed = change.error ?? remove.error ?? revoke.error ?? resend.error;
  return (
    <Page title={t('nav.team')} text={t('team.text')} action={may('member:write') && <Button onClick={open}>{t('team.invite')}</Button>}>
      {failed && <Refusal error={failed} />}
      <Answer of={members}>
        {(page) => (
          <Table verticalSpacing="sm" className="cards">
            <Table.Thead>
              <Table.Tr>
                <Table.Th>{t('team.member')}</Table.Th>
                <Table.Th>{t('team.role')}</Table.Th>
                <Table.Th>{t('account.seen')}</Table.Th>
                <Table.Th>{t('field.actions')}</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {page.data.map((m) => (
                <Table.Tr key={m.id}>
                  <Table.Td>
                    <Text fw={550}>
                      {m.full_name} {m.yourself && <Badge variant="default">{t('team.you')}</Badge>}
                    </Text>
                    <Text size="sm" c="dimmed">
                      {m.email}
                    </Text>
                  </Table.Td>
                  <Table.Td data-label={t('team.role')}>
                    {may('member:write') && choices.length > 0 && !m.yourself && !m.by_group ? (
                      <Select aria-label={t('team.roleOf', { name: m.full_name })} data={choices} value={m.role} onChange={(role) => role && change.mutate({ id: m.id, role })} allowDeselect={false} maw={200} />
                    ) : (
                      <>
                        {name(m.role)}
                        {m.by_group && (
                          <Text size="sm" c="dimmed">
                            {t('team.byGroup')}
                          </Text>
                        )}
                      </>
                    )}
                  </Table.Td>
                  <Table.Td data-label={t('account.seen')}>{m.seen_at ? format.time(m.seen_at) : t('keys.never')}</Table.Td>
                  <Table.Td>
                    {may('member:write') && !m.yourself && (
                      <Group gap="xs">
                        {tenant?.role === 'owner' && m.role !== 'owner' && (
                          <Button size="xs" variant="default" onClick={() => setHeir(m)} aria-label={t('team.ownerOne', { name: m.full_name })}>
                            {t('team.owner')}
                          </Button>
                        )}
                        <Button size="xs" variant="default" onClick={() => remove.mutate(m.id)} aria-label={t('team.removeOne', { name: m.full_name })}>
                          {t('team.remove')}
                        </Button>
                      </Group>
                    )}
                  </Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        )}
      </Answer>
      {(invitations.data?.data.length ?? 0) > 0 && (
        <Stack component="section" gap="xs">
          <Title order={2} size="h4">
            {t('team.invited')}
          </Title>
          {invitations.data?.data.map((i) => (
            <Group key={i.id} justify="space-between">
              <div>
                <Text>{i.email}</Text>
                <Text size="sm" c="dimmed">
                  {name(i.role)} · {t('team.expires', { date: format.date(i.expires_at) })}
                </Text>
              </div>
              {may('member:write') && (
                <Group gap="xs">
                  <Button size="xs" variant="default" onClick={() => resend.mutate(i.id)} aria-label={t('team.resendOne', { email: i.email })}>
                    {t('team.resend')}
                  </Button>
                  <Button size="xs" variant="default" onClick={() => revoke.mutate(i.id)} aria-label={t('team.revokeOne', { email: i.email })}>
                    {t('team.revoke')}
                  </Button>
                </Group>
              )}
            </Group>
          ))}
        </Stack>
      )}
      {may('role:write') && loaded && <OwnRoles roles={own} />}
      {heir && <HandOver to={heir} close={() => setHeir(null)} />}
      <Invite opened={opened} close={close} choices={choices.filter((c) => c.value !== 'owner')} done={settled} />
    </Page>
  );
}

/** Another owner in one's own place: what one could do as the owner is theirs then. */
function HandOver({ to, close }: { to: Schema<'Member'>; close: () => void }) {
  const { t } = useTranslation();
  const give = useAct(() => data(api.POST('/api/v1/tenant/ownership', { body: { member_id: to.id } })), { refresh: ['members', 'me'], said: t('team.ownerDone', { name: to.full_name }), done: close });
  return (
    <FormDialog opened close={close} title={t('team.ownerOne', { name: to.full_name })} submit={() => give.mutate()} doing={give} label={t('team.owner')} danger>
      <Text>{t('team.ownerText', { name: to.full_name })}</Text>
    </FormDialog>
  );
}

function Invite({ opened, close, choices, done }: { opened: boolean; close: () => void; choices: { value: string; label: string }[]; done: () => Promise<unknown> }) {
  const { t } = useTranslation();
  const [email, setEmail] = useState('');
  const [role, setRole] = useState<string | null>('analyst');
  const invite = useMutation({
    mutationFn: () => data(api.POST('/api/v1/tenant/invitations', { body: { email, role: role ?? 'viewer' } })),
    onSuccess: async () => {
      say(t('team.sent', { email }));
      setEmail('');
      close();
      await done();
    },
  });
  const problem = invite.error instanceof Problem ? invite.error : null;
  return (
    <Modal opened={opened} onClose={close} title={t('team.invite')} closeButtonProps={{ 'aria-label': t('action.close') }}>
      <form
        onSubmit={(e) => {
          e.preventDefault();
          invite.mutate();
        }}
      >
        <Stack>
          <TextInput label={t('field.email')} type="email" required value={email} onChange={(e) => setEmail(e.currentTarget.value)} error={problem?.fields.email} data-autofocus />
          <Select label={t('team.role')} data={choices} value={role} onChange={setRole} allowDeselect={false} error={problem?.fields.role} />
          {invite.isError && <Refusal error={invite.error} />}
          <Button type="submit" loading={invite.isPending}>
            {t('team.send')}
          </Button>
        </Stack>
      </form>
    </Modal>
  );
}
