import { Button, Checkbox, Group, SimpleGrid, Text, TextInput } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, Problem, type Schema } from '../api';
import { useAct } from '../parts/act';
import { FormDialog } from '../parts/dialog';
import { Section } from '../parts/page';
import { Rows } from '../parts/rows';
import { Refusal } from '../parts/states';
import { useSession } from '../session';

type Role = Schema<'Role'>;

/** The workspace's own roles: sets of permissions, made of those that one has oneself. */
export function OwnRoles({ roles }: { roles: Role[] }) {
  const { t } = useTranslation();
  const [open, setOpen] = useState<Role | 'new' | null>(null);
  const remove = useAct((id: string) => data(api.DELETE('/api/v1/tenant/roles/{id}', { params: { path: { id } } })), { refresh: ['roles'] });
  return (
    <Section title={t('roles.title')} text={t('roles.text')} action={<Button variant="default" onClick={() => setOpen('new')}>{t('roles.add')}</Button>}>
      {remove.isError && <Refusal error={remove.error} />}
      {roles.length > 0 && (
        <Rows
          label={t('roles.title')}
          rows={roles}
          id={(r) => r.id}
          columns={[
            { label: t('field.title'), show: (r) => r.name },
            { label: t('keys.scopes'), show: (r) => <Text size="sm">{r.permissions.map((p) => t(`scope.${p}` as 'scope.match:run')).join(', ')}</Text> },
            {
              label: t('field.actions'),
              show: (r) => (
                <Group gap="xs" wrap="nowrap">
                  <Button size="xs" variant="default" onClick={() => setOpen(r)} aria-label={t('roles.changeOne', { name: r.name })}>
                    {t('roles.change')}
                  </Button>
                  <Button size="xs" variant="default" onClick={() => remove.mutate(r.id)} aria-label={t('domains.removeOne', { name: r.name })}>
                    {t('team.remove')}
                  </Button>
                </Group>
              ),
            },
          ]}
        />
      )}
      {open && <Edit role={open === 'new' ? null : open} close={() => setOpen(null)} />}
    </Section>
  );
}

function Edit({ role, close }: { role: Role | null; close: () => void }) {
  const { t } = useTranslation();
  const { may } = useSession();
  const [name, setName] = useState(role?.name ?? '');
  const [picked, setPicked] = useState<string[]>(role?.permissions ?? []);
  const all = useQuery({ queryKey: ['permissions'], queryFn: () => data(api.GET('/api/v1/permissions')), staleTime: Infinity });
  const save = useAct(() => data(role ? api.PATCH('/api/v1/tenant/roles/{id}', { params: { path: { id: role.id } }, body: { name, permissions: picked } }) : api.POST('/api/v1/tenant/roles', { body: { name, permissions: picked } })), { refresh: ['roles', 'members'], done: close });
  const problem = save.error instanceof Problem ? save.error : null;
  return (
    <FormDialog opened close={close} title={t(role ? 'roles.change' : 'roles.add')} submit={() => save.mutate()} doing={save} label={t('action.save')} ready={name.trim() !== '' && picked.length > 0} size="lg">
      <TextInput label={t('field.title')} maxLength={60} value={name} onChange={(e) => setName(e.currentTarget.value)} error={problem?.fields.name} data-autofocus />
      <Checkbox.Group label={t('keys.scopes')} value={picked} onChange={setPicked} error={problem?.fields.permissions}>
        <SimpleGrid cols={{ base: 1, xs: 2 }} spacing="xs" mt="xs">
          {all.data?.data
            .map((p) => p.name)
            .filter((p) => may(p) || picked.includes(p))
            .map((p) => (
              <Checkbox key={p} value={p} label={t(`scope.${p}` as 'scope.match:run')} />
            ))}
        </SimpleGrid>
      </Checkbox.Group>
    </FormDialog>
  );
}
