import { Anchor, Button, Card, Group, Modal, SimpleGrid, Stack, Table, Text, Textarea, TextInput, Title } from '@mantine/core';
import { useDisclosure } from '@mantine/hooks';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link, useNavigate } from '@tanstack/react-router';
import { useState } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data, Problem } from '../api';
import { format } from '../i18n';
import { Page } from '../parts/page';
import { Answer, Empty, Refusal } from '../parts/states';
import { useSession } from '../session';

export function Datasets() {
  const { t } = useTranslation();
  const { may } = useSession();
  const [opened, { open, close }] = useDisclosure();
  const list = useQuery({ queryKey: ['datasets'], queryFn: () => data(api.GET('/api/v1/datasets', { params: { query: { limit: 200 } } })) });
  return (
    <Page title={t('nav.datasets')} text={t('datasets.text')} action={may('dataset:write') && <Button onClick={open}>{t('datasets.new')}</Button>}>
      <Answer of={list}>
        {(page) =>
          page.data.length === 0 ? (
            <Empty title={t('datasets.empty')} text={t('datasets.emptyText')}>
              {may('dataset:write') && <Button onClick={open}>{t('datasets.new')}</Button>}
            </Empty>
          ) : (
            <Table highlightOnHover verticalSpacing="sm" className="cards">
              <Table.Thead>
                <Table.Tr>
                  <Table.Th>{t('field.title')}</Table.Th>
                  <Table.Th>{t('field.publisher')}</Table.Th>
                  <Table.Th ta="end">{t('field.rows')}</Table.Th>
                  <Table.Th>{t('field.updated')}</Table.Th>
                </Table.Tr>
              </Table.Thead>
              <Table.Tbody>
                {page.data.map((d) => (
                  <Table.Tr key={d.id}>
                    <Table.Td>
                      <Anchor component={Link} to="/app/datasets/$id" params={{ id: d.id } as never} fw={550}>
                        {d.name}
                      </Anchor>
                    </Table.Td>
                    <Table.Td data-label={t('field.publisher')}>{d.publisher || '–'}</Table.Td>
                    <Table.Td data-label={t('field.rows')} ta="end">
                      {format.number(d.rows)}
                    </Table.Td>
                    <Table.Td data-label={t('field.updated')}>{format.time(d.updated_at)}</Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          )
        }
      </Answer>
      <Catalogue />
      <NewDataset opened={opened} close={close} />
    </Page>
  );
}

/** Published lists that any tenant may add. */
function Catalogue() {
  const { t } = useTranslation();
  const { may } = useSession();
  const cache = useQueryClient();
  const lists = useQuery({ queryKey: ['catalog'], queryFn: () => data(api.GET('/api/v1/catalog')) });
  const add = useMutation({
    mutationFn: (slug: string) => data(api.POST('/api/v1/catalog/{slug}/subscribe', { params: { path: { slug } } })),
    onSuccess: () => cache.invalidateQueries(),
  });
  if (!lists.data?.data.length) return null;
  return (
    <Stack gap="sm" component="section">
      <Title order={2} size="h4">
        {t('catalog.title')}
      </Title>
      {add.isError && <Refusal error={add.error} />}
      <SimpleGrid cols={{ base: 1, sm: 2, md: 3 }}>
        {lists.data.data.map((list) => (
          <Card withBorder key={list.slug}>
            <Stack gap={6} h="100%">
              <Text fw={600}>{list.name}</Text>
              <Text size="sm" c="dimmed">
                {list.description}
              </Text>
              {may('dataset:write') && (
                <Button size="xs" variant="default" mt="auto" loading={add.isPending && add.variables === list.slug} onClick={() => add.mutate(list.slug)}>
                  {t('catalog.add')}
                </Button>
              )}
            </Stack>
          </Card>
        ))}
      </SimpleGrid>
    </Stack>
  );
}

function NewDataset({ opened, close }: { opened: boolean; close: () => void }) {
  const { t } = useTranslation();
  const navigate = useNavigate();
  const cache = useQueryClient();
  const [form, setForm] = useState({ name: '', description: '', publisher: '', source_url: '' });
  const create = useMutation({
    mutationFn: () => data(api.POST('/api/v1/datasets', { body: Object.fromEntries(Object.entries(form).filter(([, v]) => v)) as typeof form })),
    onSuccess: async (made) => {
      await cache.invalidateQueries({ queryKey: ['datasets'] });
      await navigate({ to: '/app/datasets/$id', params: { id: made.id } });
    },
  });
  const problem = create.error instanceof Problem ? create.error : null;
  const input = (name: keyof typeof form) => ({
    value: form[name],
    onChange: (e: React.ChangeEvent<HTMLInputElement | HTMLTextAreaElement>) => setForm({ ...form, [name]: e.currentTarget.value }),
    error: problem?.fields[name],
  });
  return (
    <Modal opened={opened} onClose={close} title={t('datasets.new')} closeButtonProps={{ 'aria-label': t('action.close') }}>
      <form
        onSubmit={(e) => {
          e.preventDefault();
          create.mutate();
        }}
      >
        <Stack>
          <TextInput label={t('field.title')} required maxLength={200} data-autofocus {...input('name')} />
          <TextInput label={t('field.publisher')} maxLength={200} {...input('publisher')} />
          <TextInput label={t('field.sourceUrl')} type="url" maxLength={2000} {...input('source_url')} />
          <Textarea label={t('field.description')} autosize minRows={2} maxLength={5000} {...input('description')} />
          {create.isError && <Refusal error={create.error} />}
          <Group justify="flex-end">
            <Button variant="default" onClick={close}>
              {t('action.cancel')}
            </Button>
            <Button type="submit" loading={create.isPending}>
              {t('action.create')}
            </Button>
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}
