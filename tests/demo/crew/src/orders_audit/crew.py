"""Two agents and three tasks, in the layout that `crewai create crew` makes."""

from crewai import LLM, Agent, Crew, Process, Task
from crewai.agents.agent_builder.base_agent import BaseAgent
from crewai.project import CrewBase, agent, crew, task

from orders_audit.tools.company import (
    customer_register,
    file_report,
    query_orders,
    run_on_warehouse_host,
    stock_level,
)


@CrewBase
class OrdersAudit:
    """Checks open orders against the warehouse."""

    agents: list[BaseAgent]
    tasks: list[Task]

    @agent
    def order_analyst(self) -> Agent:
        return Agent(
            config=self.agents_config["order_analyst"],
            llm=LLM(model="gpt-4o-mini"),
            tools=[query_orders, customer_register, file_report],
            verbose=True,
        )

    @agent
    def site_operator(self) -> Agent:
        return Agent(
            config=self.agents_config["site_operator"],
            llm=LLM(model="gpt-4o-mini", stream=True),
            tools=[stock_level, run_on_warehouse_host],
            verbose=True,
        )

    @task
    def collect_orders(self) -> Task:
        return Task(config=self.tasks_config["collect_orders"])

    @task
    def check_warehouse(self) -> Task:
        return Task(config=self.tasks_config["check_warehouse"])

    @task
    def file_report(self) -> Task:
        return Task(config=self.tasks_config["file_report"])

    @crew
    def crew(self) -> Crew:
        return Crew(agents=self.agents, tasks=self.tasks, process=Process.sequential, verbose=True)
