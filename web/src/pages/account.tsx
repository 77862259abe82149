import { Badge, Button, Card, Group, Select, Stack, Table, Text, TextInput, Title } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, Problem } from '../api';
import { format } from '../i18n';
import { Page } from '../parts/page';
import { Answer, Refusal } from '../parts/states';
import { useSession } from '../session';

export function Account() {
  const { t } = useTranslation();
  return (
    <Page title={t('nav.account')}>
      <Profile />
      <Sessions />
    </Page>
  );
}

function Profile() {
  const { t, i18n } = useTranslation();
  const { me } = useSession();
  const cache = useQueryClient();
  const [name, setName] = useState(me?.user?.full_name ?? '');
  const [locale, setLocale] = useState<'en' | 'zh-CN'>(me?.user?.locale === 'zh-CN' ? 'zh-CN' : 'en');
  const save = useMutation({
    mutationFn: () => data(api.PATCH('/api/v1/me', { body: { full_name: name, locale } })),
    onSuccess: async () => {
      await i18n.changeLanguage(locale);
      await cache.invalidateQueries({ queryKey: ['me'] });
    },
  });
  const problem = save.error instanceof Problem ? save.error : null;
  return (
    <Card withBorder padding="lg" maw={560}>
      <form
        onSubmit={(e) => {
          e.preventDefault();
          save.mutate();
        }}
      >
        <Stack>
          <Title order={2} size="h4">
            {t('account.profile')}
          </Title>
          <TextInput label={t('field.email')} value={me?.user?.email ?? ''} readOnly />
          <TextInput label={t('field.name')} value={name} onChange={(e) => setName(e.currentTarget.value)} error={problem?.fields.full_name} required />
          <Select label={t('account.language')} value={locale} onChange={(v) => setLocale(v === 'zh-CN' ? 'zh-CN' : 'en')} data={[{ value: 'en', label: 'English' }, { value: 'zh-CN', label: '简体中文' }]} allowDeselect={false} />
          {save.isError && <Refusal error={save.error} />}
          <Button type="submit" loading={save.isPending} w="fit-content">
            {t('action.save')}
          </Button>
        </Stack>
      </form>
    </Card>
  );
}

function Sessions() {
  const { t } = useTranslation();
  const cache = useQueryClient();
  const sessions = useQuery({ queryKey: ['sessions'], queryFn: () => data(api.GET('/api/v1/auth/sessions')) });
  const end = useMutation({
    mutationFn: (id: string) => data(api.DELETE('/api/v1/auth/sessions/{id}', { params: { path: { id } } })),
    onSettled: () => cache.invalidateQueries({ queryKey: ['sessions'] }),
  });
  return (
    <Stack component="section">
      <Title order={2} size="h4">
        {t('account.sessions')}
      </Title>
      {end.isError && <Refusal error={end.error} />}
      <Answer of={sessions}>
        {(page) => (
          <Table verticalSpacing="xs" className="cards">
            <Table.Thead>
              <Table.Tr>
                <Table.Th>{t('account.device')}</Table.Th>
                <Table.Th>{t('account.address')}</Table.Th>
                <Table.Th>{t('account.seen')}</Table.Th>
                <Table.Th>{t('field.actions')}</Table.Th>
              </Table.Tr>
            </Table.Thead>
            <Table.Tbody>
              {page.data.map((s) => (
                <Table.Tr key={s.id}>
                  <Table.Td>
                    <Text size="sm" lineClamp={1}>
                      {s.user_agent}
                    </Text>
                  </Table.Td>
                  <Table.Td data-label={t('account.address')}>{s.ip}</Table.Td>
                  <Table.Td data-label={t('account.seen')}>{format.time(s.seen_at)}</Table.Td>
                  <Table.Td>
                    <Group>
                      {s.current ? (
                        <Badge variant="outline" c="var(--mantine-color-text)">
                          {t('account.current')}
                        </Badge>
                      ) : (
                        <Button size="xs" variant="default" onClick={() => end.mutate(s.id)}>
                          {t('account.end')}
                        </Button>
                      )}
                    </Group>
                  </Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        )}
      </Answer>
    </Stack>
  );
}
