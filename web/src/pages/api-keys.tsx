import { Button, Checkbox, Code, Group, Modal, Select, Stack, Table, Text, TextInput } from '@mantine/core';
import { useDisclosure } from '@mantine/hooks';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, Problem, type Schema } from '../api';
import { format } from '../i18n';
import { Mark } from '../parts/mark';
import { Page } from '../parts/page';
import { OnceDialog } from '../parts/secret';
import { Answer, Empty, Refusal } from '../parts/states';
import { useSession } from '../session';

const scopes = ['dataset:read', 'dataset:write', 'dataset:delete', 'match:run', 'matching:read', 'matching:write', 'research:run', 'research:read', 'usage:read', 'audit:read'];

export function ApiKeys() {
  const { t } = useTranslation();
  const { may } = useSession();
  const cache = useQueryClient();
  const [opened, { open, close }] = useDisclosure();
  const [made, setMade] = useState<Schema<'KeyWithSecret'> | null>(null);
  const keys = useQuery({ queryKey: ['keys'], queryFn: () => data(api.GET('/api/v1/api-keys')) });
  const settled = () => cache.invalidateQueries({ queryKey: ['keys'] });
  const revoke = useMutation({ mutationFn: (id: string) => data(api.DELETE('/api/v1/api-keys/{id}', { params: { path: { id } } })), onSettled: settled });
  const rotate = useMutation({
    mutationFn: (id: string) => data(api.POST('/api/v1/api-keys/{id}/rotate', { params: { path: { id } }, body: { grace_seconds: 3600 } })),
    onSuccess: setMade,
    onSettled: settled,
  });
  return (
    <Page title={t('nav.keys')} text={t('keys.text')} action={may('api_key:write') && <Button onClick={open}>{t('keys.new')}</Button>}>
      {(revoke.isError || rotate.isError) && <Refusal error={revoke.error ?? rotate.error} />}
      <Answer of={keys}>
        {(page) =>
          page.data.length === 0 ? (
            <Empty title={t('keys.empty')} text={t('keys.emptyText')} />
          ) : (
            <Table verticalSpacing="sm" className="cards">
              <Table.Thead>
                <Table.Tr>
                  <Table.Th>{t('field.title')}</Table.Th>
                  <Table.Th>{t('keys.key')}</Table.Th>
                  <Table.Th>{t('keys.used')}</Table.Th>
                  <Table.Th>{t('keys.expires')}</Table.Th>
                  <Table.Th>{t('field.actions')}</Table.Th>
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {page.data.map((k) => (
                  <Table.Tr key={k.id}>
                    <Table.Td>
                      <Text fw={550}>{k.name}</Text>
                      <Text size="sm" c="dimmed">
                        {k.scopes.join(', ')}
                      </Text>
                    </Table.Td>
                    <Table.Td data-label={t('keys.key')}>
                      <Code>{k.hint}</Code>
                    </Table.Td>
                    <Table.Td data-label={t('keys.used')}>{k.last_used_at ? format.time(k.last_used_at) : t('keys.never')}</Table.Td>
                    <Table.Td data-label={t('keys.expires')}>{k.revoked_at ? <Mark>{t('keys.revoked')}</Mark> : k.expires_at ? format.date(k.expires_at) : '–'}</Table.Td>
                    <Table.Td>
                      {!k.revoked_at && may('api_key:write') && (
                        <Group gap="xs">
                          <Button size="xs" variant="default" onClick={() => rotate.mutate(k.id)} aria-label={t('keys.rotateOne', { name: k.name })}>
                            {t('keys.rotate')}
                          </Button>
                          <Button size="xs" variant="default" onClick={() => revoke.mutate(k.id)} aria-label={t('keys.revokeOne', { name: k.name })}>
                            {t('keys.revoke')}
                          </Button>
                        </Group>
                      )}
                    </Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          )
        }
      </Answer>
      <NewKey
        opened={opened}
        close={close}
        made={(key) => {
          close();
          setMade(key);
          void settled();
        }}
      />
      <OnceDialog value={made?.key ?? null} title={t('keys.made')} close={() => setMade(null)}>
        <Text size="sm">{t('keys.try')}</Text>
        <Code block style={{ whiteSpace: 'pre-wrap' }}>
          {`curl ${location.origin}/api/v1/matches -H 'X-API-Key: ${made?.key ?? ''}' -H 'Content-Type: application/json' -d '{"query":{"name":"…"}}'`}
        </Code>
      </OnceDialog>
    </Page>
  );
}

function NewKey({ opened, close, made }: { opened: boolean; close: () => void; made: (key: Schema<'KeyWithSecret'>) => void }) {
  const { t } = useTranslation();
  const { may } = useSession();
  const [name, setName] = useState('');
  const [picked, setPicked] = useState<string[]>(['dataset:read', 'match:run']);
  const [days, setDays] = useState<string | null>('90');
  const create = useMutation({
    mutationFn: () =>
      data(api.POST('/api/v1/api-keys', { body: { name, scopes: picked, ...(days && days !== '0' ? { expires_at: new Date(Date.now() + Number(days) * 86_400_000).toISOString() } : {}) } })),
    onSuccess: made,
  });
  const problem = create.error instanceof Problem ? create.error : null;
  return (
    <Modal opened={opened} onClose={close} title={t('keys.new')} closeButtonProps={{ 'aria-label': t('action.close') }}>
      <form
        onSubmit={(e) => {
          e.preventDefault();
          create.mutate();
        }}
      >
        <Stack>
          <TextInput label={t('field.title')} required maxLength={100} value={name} onChange={(e) => setName(e.currentTarget.value)} error={problem?.fields.name} data-autofocus />
          <Checkbox.Group label={t('keys.scopes')} value={picked} onChange={setPicked} error={problem?.fields.scopes}>
            <Stack gap={6} mt={6}>
              {scopes.filter(may).map((s) => (
                <Checkbox key={s} value={s} label={`${t(`scope.${s}` as 'scope.match:run')} (${s})`} />
              ))}
            </Stack>
          </Checkbox.Group>
          <Select
            label={t('keys.expires')}
            value={days}
            onChange={setDays}
            data={[
              ...['30', '90', '365'].map((d) => ({ value: d, label: t('keys.days', { count: Number(d) }) })),
              { value: '0', label: t('keys.noExpiry') },
            ]}
            allowDeselect={false}
          />
          {create.isError && <Refusal error={create.error} />}
          <Button type="submit" loading={create.isPending} disabled={picked.length === 0}>
            {t('action.create')}
          </Button>
        </Stack>
      </form>
    </Modal>
  );
}
