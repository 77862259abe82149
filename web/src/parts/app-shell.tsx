// The frame of the pages behind sign-in: navigation, tenant, palette.
import '@mantine/notifications/styles.css';
import '@mantine/spotlight/styles.css';
import { AppShell as Frame, Burger, Button, Center, Group, Loader, Menu, NavLink, ScrollArea, Text, UnstyledButton } from '@mantine/core';
import { useDisclosure } from '@mantine/hooks';
import { Notifications } from '@mantine/notifications';
import { Spotlight, spotlight } from '@mantine/spotlight';
import { IconChartBar, IconChevronDown, IconDatabase, IconHome, IconKey, IconLogout, IconSearch, IconShieldCheck, IconTargetArrow, IconTopologyStar3, IconUser, IconUsers } from '@tabler/icons-react';
import { Link, Outlet, useLocation, useNavigate } from '@tanstack/react-router';
import { useEffect } from 'react';
import { useTranslation } from 'react-i18next';
import { api, data } from '../api';
import type { Key } from '../i18n';
import { useSession } from '../session';
import { Brand, Preferences } from './chrome';

const pages: { to: '/app' | '/app/match' | '/app/datasets' | '/app/research' | '/app/team' | '/app/usage' | '/app/api-keys' | '/app/audit' | '/app/account'; label: Key; icon: typeof IconHome; needs?: string }[] = [
  { to: '/app', label: 'nav.start', icon: IconHome },
  { to: '/app/match', label: 'nav.match', icon: IconTargetArrow, needs: 'match:run' },
  { to: '/app/research', label: 'nav.research', icon: IconTopologyStar3, needs: 'research:read' },
  { to: '/app/datasets', label: 'nav.datasets', icon: IconDatabase, needs: 'dataset:read' },
  { to: '/app/team', label: 'nav.team', icon: IconUsers, needs: 'member:read' },
  { to: '/app/usage', label: 'nav.usage', icon: IconChartBar, needs: 'usage:read' },
  { to: '/app/api-keys', label: 'nav.keys', icon: IconKey, needs: 'api_key:read' },
  { to: '/app/audit', label: 'nav.audit', icon: IconShieldCheck, needs: 'audit:read' },
  { to: '/app/account', label: 'nav.account', icon: IconUser },
];

export function AppShell() {
  const { t } = useTranslation();
  const { me, tenant, ready, may, enter, leave } = useSession();
  const [opened, { toggle, close }] = useDisclosure();
  const { pathname } = useLocation();
  const navigate = useNavigate();
  const out = ready && !me;
  useEffect(() => {
    if (out) void navigate({ to: '/sign-in', search: { next: location.pathname }, replace: true });
  }, [out, navigate]);
  if (!ready || !me)
    return (
      <Center mih="100vh">
        <Loader aria-label={t('state.loading')} />
      </Center>
    );
  const shown = pages.filter((p) => !p.needs || may(p.needs));
  const change = async (id: string) => {
    await enter(await data(api.POST('/api/v1/auth/switch', { body: { tenant_id: id } })));
    await navigate({ to: '/app' });
  };
  return (
    <Frame header={{ height: 56 }} navbar={{ width: 232, breakpoint: 'sm', collapsed: { mobile: !opened } }} padding="md">
      <Notifications position="bottom-right" />
      <Spotlight
        nothingFound={t('palette.nothing')}
        searchProps={{ placeholder: t('palette.search'), 'aria-label': t('palette.search') }}
        shortcut={['mod + K']}
        actions={shown.map((p) => ({ id: p.to, label: t(p.label), leftSection: <p.icon size={18} />, onClick: () => void navigate({ to: p.to }) }))}
      />
      <a href="#content" className="skip">
        {t('chrome.skip')}
      </a>
      <Frame.Header>
        <Group h="100%" px="md" justify="space-between" wrap="nowrap">
          <Group gap="sm" wrap="nowrap">
            <Burger opened={opened} onClick={toggle} hiddenFrom="sm" size="sm" aria-label={t('chrome.menu')} />
            <Brand to="/app" />
          </Group>
          <Group gap="xs" wrap="nowrap">
            <Button variant="default" size="xs" leftSection={<IconSearch size={14} />} onClick={spotlight.open} visibleFrom="sm">
              {t('palette.open')}
            </Button>
            <Menu position="bottom-end" width={240}>
              <Menu.Target>
                <UnstyledButton aria-label={t('chrome.account', { tenant: tenant?.name ?? '' })}>
                  <Group gap={4} wrap="nowrap">
                    <Text size="sm" fw={500} truncate maw={140}>
                      {tenant?.name}
                    </Text>
                    <IconChevronDown size={14} />
                  </Group>
                </UnstyledButton>
              </Menu.Target>
              <Menu.Dropdown>
                <Menu.Label>{me.user?.email}</Menu.Label>
                {me.tenants.map((other) => (
                  <Menu.Item key={other.id} disabled={other.id === me.tenant_id} onClick={() => void change(other.id)}>
                    {other.name}
                  </Menu.Item>
                ))}
                <Menu.Divider />
                <Menu.Item leftSection={<IconLogout size={16} />} onClick={() => void leave().then(() => navigate({ to: '/' }))}>
                  {t('action.signOut')}
                </Menu.Item>
              </Menu.Dropdown>
            </Menu>
            <Preferences />
          </Group>
        </Group>
      </Frame.Header>
      <Frame.Navbar p="xs" component="nav" aria-label={t('chrome.app')}>
        <ScrollArea>
          {shown.map((p) => (
            <NavLink
              key={p.to}
              component={Link}
              to={p.to}
              activeOptions={{ exact: p.to === '/app' }}
              label={t(p.label)}
              leftSection={<p.icon size={18} />}
              active={p.to === '/app' ? pathname === '/app' || pathname === '/app/' : pathname.startsWith(p.to)}
              variant="filled"
              onClick={close}
            />
          ))}
        </ScrollArea>
      </Frame.Navbar>
      <Frame.Main id="content">
        <Outlet />
      </Frame.Main>
    </Frame>
  );
}
